// What the load client counts, and how it prints it.
#include "load.h"

#define NS_PER_US_F 1000.0
// Samples are kept in 32 bits: 4.29 s. More than this is shown as this.
#define SAMPLE_NS_MAX 4200000000L

void add_sample(Samples *samples, long value_ns) {
    if (samples->count == samples->capacity) {
        samples->capacity = samples->capacity ? 2 * samples->capacity : 65536;
        samples->values = realloc(samples->values, samples->capacity * sizeof *samples->values);
        if (!samples->values) exit(1);
    }
    if (value_ns < 0) value_ns = 0;
    samples->values[samples->count++] = (unsigned)(value_ns > SAMPLE_NS_MAX ? SAMPLE_NS_MAX : value_ns);
}

void count_answer(Tally *tally, Connection *c, bool is_complete, long chunks_wanted, long now) {
    if (c->status >= 0 && c->status < STATUS_MAX) tally->status[c->status]++;
    tally->last_ns = now;
    if (is_complete && c->status == 200 && c->stamps >= chunks_wanted) {
        tally->good++;
        add_sample(&tally->request, now - c->due_ns);
        return;
    }
    tally->bad++;
    if (!is_complete) tally->cut++;
    else if (c->status == 200) tally->incomplete++;
}

static int by_value(const void *left, const void *right) {
    unsigned a = *(const unsigned *)left, b = *(const unsigned *)right;
    return (a > b) - (a < b);
}

static double quantile_us(const Samples *samples, double share) {
    size_t at = (size_t)((double)samples->count * share);
    if (at >= samples->count) at = samples->count - 1;
    return samples->values[at] / NS_PER_US_F;
}

static void print_samples(const char *name, Samples *samples) {
    if (!samples->count) {
        printf(",\"%s\":null", name);
        return;
    }
    qsort(samples->values, samples->count, sizeof *samples->values, by_value);
    printf(",\"%s\":{\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f}", name, quantile_us(samples, 0.5), quantile_us(samples, 0.99),
           quantile_us(samples, 1));
}

void print_tally(Tally *tally, long start_ns) {
    double seconds = (double)(tally->end_ns - (tally->begin_ns ? tally->begin_ns : start_ns)) / NS_PER_S;
    printf("{\"seconds\":%.3f,\"good\":%ld,\"bad\":%ld,\"incomplete\":%ld,\"cut\":%ld,\"chunks\":%ld,\"messages\":%ld", seconds,
           tally->good, tally->bad, tally->incomplete, tally->cut, tally->chunks, tally->messages);
    printf(",\"requests_s\":%.2f,\"chunks_s\":%.1f", (double)(tally->requests_at_end - tally->requests_at_begin) / seconds,
           (double)(tally->chunks_at_end - tally->chunks_at_begin) / seconds);
    print_samples("ttft_us", &tally->ttft);
    print_samples("chunk_us", &tally->chunk);
    print_samples("request_us", &tally->request);
    printf(",\"status\":{");
    for (int status = 0, shown = 0; status < STATUS_MAX; status++)
        if (tally->status[status]) printf("%s\"%d\":%ld", shown++ ? "," : "", status, tally->status[status]);
    printf("}}\n");
}
