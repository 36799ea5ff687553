// A load client for OpenAI-compatible servers: one thread, epoll, many connections. Prints one line of JSON.
//
//     load --port N --body FILE [--path P] [--header "name: value"]... [--connections N] [--seconds S]
//          [--requests N] [--chunks N] [--rate N] [--slow-bytes N]
//
// Closed loop by default: each connection sends its next request when the last answer is complete. With --rate it is
// an open loop: requests start when they are due, and latency counts from then, so a slow server cannot slow the load
// down. With --slow-bytes every connection sends one request and then reads this little ten times a second.
// An answer is good with status 200 and at least --chunks stamps (`@NANOSECONDS@`, see fake_engine.c) in it. The mark
// `#00000000#` in the body is replaced by the request's number, so that no two prompts are the same.
#include "load.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX 256
#define READ_BYTES 262144
#define HEADERS_MAX 8
#define MARK "#00000000#"
// Answers under way at the end get this long; then they count as cut.
#define GRACE_NS (5 * NS_PER_S)
#define SLOW_INTERVAL_US 100000
#define SLOW_BYTES_MAX 65536
// A segment size as on the way to a real client: loopback's 64 KiB would let the kernel hold megabytes a stream.
#define SLOW_SEGMENT_BYTES 1400
#define SLOW_RECEIVE_BYTES 4096

typedef struct {
    int port, connections;
    long requests, chunks, slow_bytes;
    double seconds, rate;
    const char *path, *body_file, *headers[HEADERS_MAX];
    int header_count;
} Options;

typedef struct {
    Options options;
    Buffer request;
    char *mark;
    int epoll;
    Connection *connections;
    Tally tally;
    long start_ns, stop_ns, started;
    int live;
} Load;

// --- requests

static void read_file(const char *path, Buffer *into) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(1);
    }
    for (size_t got = 1; got;) {
        reserve(into, READ_BYTES);
        got = fread(into->data + into->end, 1, READ_BYTES, file);
        into->end += got;
    }
    fclose(file);
}

static void build_request(Load *load) {
    const Options *options = &load->options;
    Buffer body = {0};
    read_file(options->body_file, &body);
    append_format(&load->request, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: longreach-bench\r\nAccept: */*\r\n"
                                  "Content-Type: application/json\r\n",
                  options->path, options->port);
    for (int i = 0; i < options->header_count; i++) append_format(&load->request, "%s\r\n", options->headers[i]);
    append_format(&load->request, "Content-Length: %zu\r\n\r\n", held(&body));
    append(&load->request, body.data, held(&body));
    load->mark = memmem(load->request.data, held(&load->request), MARK, strlen(MARK));
    free(body.data);
}

static bool is_over(const Load *load, long now) {
    return now >= load->stop_ns || (load->options.requests && load->started >= load->options.requests);
}

static void watch(Load *load, Connection *c, int operation) {
    bool is_sending = c->is_busy && c->sent < held(&load->request);
    struct epoll_event event = {EPOLLIN | (is_sending ? EPOLLOUT : 0), {.ptr = c}};
    epoll_ctl(load->epoll, operation, c->fd, &event);
}

static void send_more(Load *load, Connection *c) {
    while (c->sent < held(&load->request)) {
        ssize_t sent = send(c->fd, load->request.data + c->sent, held(&load->request) - c->sent, MSG_NOSIGNAL);
        if (sent < 0) break;  // full, or broken: reading tells which
        c->sent += (size_t)sent;
    }
}

static void start_request(Load *load, Connection *c, long due_ns) {
    load->started++;
    if (load->mark) {
        char number[sizeof MARK];
        snprintf(number, sizeof number, "#%08lu#", (unsigned long)load->started % 100000000UL);
        memcpy(load->mark, number, strlen(MARK));
    }
    expect_answer(c, due_ns);
    send_more(load, c);
    if (c->sent < held(&load->request)) watch(load, c, EPOLL_CTL_MOD);
}

static bool connect_again(Load *load, Connection *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = connect_loopback(load->options.port, load->options.slow_bytes ? SLOW_SEGMENT_BYTES : 0, SLOW_RECEIVE_BYTES);
    if (c->fd < 0) return false;
    watch(load, c, EPOLL_CTL_ADD);
    return true;
}

// --- the closed and the open loop

// An answer is complete or cut: count it, and send the next one where that is this connection's turn.
static void finish(Load *load, Connection *c, bool is_complete) {
    long now = now_ns();
    count_answer(&load->tally, c, is_complete, load->options.chunks, now);
    c->is_busy = false;
    if ((!is_complete || c->must_close) && !connect_again(load, c)) {
        load->live--;
        return;
    }
    if (is_over(load, now))
        load->live--;
    else if (load->options.rate <= 0)
        start_request(load, c, now);
}

static void handle_event(Load *load, Connection *c, unsigned flags, char *bytes) {
    if (flags & EPOLLOUT) {
        send_more(load, c);
        if (c->sent == held(&load->request)) watch(load, c, EPOLL_CTL_MOD);
    }
    if (!(flags & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    ssize_t got = recv(c->fd, bytes, READ_BYTES, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got > 0) {
        if (c->is_busy && read_answer(&load->tally, c, bytes, (size_t)got, now_ns())) finish(load, c, true);
    } else if (c->is_busy) {
        finish(load, c, ends_at_close(c));
    } else if (!connect_again(load, c)) {
        load->live--;
    }
}

// Start what is due by the rate on idle connections. Returns the milliseconds until the next request is due.
static int start_due(Load *load) {
    static int turn = 0;  // the connection looked at next: idle ones take turns
    double interval_ns = (double)NS_PER_S / load->options.rate;
    long now = now_ns(), due_ns = load->start_ns + (long)((double)load->started * interval_ns);
    for (int looked = 0; looked < load->options.connections && due_ns <= now && !is_over(load, due_ns); looked++) {
        Connection *c = &load->connections[turn++ % load->options.connections];
        if (c->is_busy || c->fd < 0) continue;
        start_request(load, c, due_ns);
        due_ns = load->start_ns + (long)((double)load->started * interval_ns);
    }
    return due_ns <= now ? 1 : (int)((due_ns - now) / 1000000L) + 1;
}

static void mark_end(Load *load, long now) {
    if (load->tally.end_ns || now < load->stop_ns) return;
    load->tally.end_ns = now;
    load->tally.requests_at_end = load->tally.good;
    load->tally.chunks_at_end = load->tally.chunks;
}

static bool any_busy(const Load *load) {
    for (int i = 0; i < load->options.connections; i++)
        if (load->connections[i].is_busy) return true;
    return false;
}

static void run_loops(Load *load) {
    static char bytes[READ_BYTES];
    struct epoll_event events[EVENTS_MAX];
    bool is_open = load->options.rate > 0;
    for (int i = 0; i < load->options.connections && !is_open; i++) {
        if (is_over(load, now_ns()))
            load->live--;
        else
            start_request(load, &load->connections[i], now_ns());
    }
    while (load->live > 0) {
        int wait_ms = is_open ? start_due(load) : 100;
        int count = epoll_wait(load->epoll, events, EVENTS_MAX, wait_ms < 100 ? wait_ms : 100);
        for (int i = 0; i < count; i++) handle_event(load, events[i].data.ptr, events[i].events, bytes);
        long now = now_ns();
        mark_end(load, now);
        if (now > load->stop_ns + GRACE_NS || (is_open && is_over(load, now) && !any_busy(load))) break;
    }
    for (int i = 0; i < load->options.connections; i++) {
        Connection *c = &load->connections[i];
        if (c->is_busy) count_answer(&load->tally, c, false, load->options.chunks, now_ns());
    }
    mark_end(load, load->stop_ns);
    // A run that ended by its number of requests ended when the last one did.
    if (load->options.requests && load->tally.last_ns) {
        load->tally.end_ns = load->tally.last_ns;
        load->tally.requests_at_end = load->tally.good;
        load->tally.chunks_at_end = load->tally.chunks;
    }
}

// --- slow readers

static void run_slow(Load *load) {
    static char bytes[SLOW_BYTES_MAX];
    long open = 0, answered = 0, got_bytes = 0;
    for (int i = 0; i < load->options.connections; i++) start_request(load, &load->connections[i], now_ns());
    for (bool is_told = false; now_ns() < load->stop_ns; usleep(SLOW_INTERVAL_US)) {
        open = answered = 0;
        for (int i = 0; i < load->options.connections; i++) {
            Connection *c = &load->connections[i];
            if (c->fd < 0) continue;
            send_more(load, c);
            ssize_t got = recv(c->fd, bytes, (size_t)load->options.slow_bytes, MSG_DONTWAIT);
            if (got == 0 || (got < 0 && errno != EAGAIN)) {
                close(c->fd);
                c->fd = -1;
                continue;
            }
            if (got > 0) {
                got_bytes += got;
                read_answer(&load->tally, c, bytes, (size_t)got, now_ns());
            }
            open++;
            answered += c->status == 200;
        }
        // Whoever waits for the streams to be open reads this first line.
        if (!is_told && answered == load->options.connections) {
            printf("open\n");
            fflush(stdout);
            is_told = true;
        }
    }
    printf("{\"open\":%ld,\"answered\":%ld,\"bytes\":%ld}\n", open, answered, got_bytes);
}

// --- the command line

static void parse(int count, char **arguments, Options *options) {
    for (int i = 1; i + 1 < count; i += 2) {
        const char *name = arguments[i], *value = arguments[i + 1];
        if (!strcmp(name, "--port")) options->port = atoi(value);
        else if (!strcmp(name, "--body")) options->body_file = value;
        else if (!strcmp(name, "--path")) options->path = value;
        else if (!strcmp(name, "--connections")) options->connections = atoi(value);
        else if (!strcmp(name, "--seconds")) options->seconds = atof(value);
        else if (!strcmp(name, "--requests")) options->requests = atol(value);
        else if (!strcmp(name, "--chunks")) options->chunks = atol(value);
        else if (!strcmp(name, "--rate")) options->rate = atof(value);
        else if (!strcmp(name, "--slow-bytes")) options->slow_bytes = atol(value);
        else if (!strcmp(name, "--header") && options->header_count < HEADERS_MAX)
            options->headers[options->header_count++] = value;
        else {
            fprintf(stderr, "unknown or one too many: %s\n", name);
            exit(2);
        }
    }
    if (!options->body_file || !options->port || options->connections < 1 || options->slow_bytes > SLOW_BYTES_MAX) {
        fprintf(stderr, "--port and --body are needed, --connections at least 1, --slow-bytes at most 65536\n");
        exit(2);
    }
}

int main(int count, char **arguments) {
    static Load load = {.options = {.path = "/v1/chat/completions", .connections = 1, .seconds = 1, .chunks = 1}};
    signal(SIGPIPE, SIG_IGN);
    die_with_parent();
    parse(count, arguments, &load.options);
    build_request(&load);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    load.live = load.options.connections;
    load.connections = calloc((size_t)load.options.connections, sizeof(Connection));
    for (int i = 0; i < load.options.connections; i++) {
        load.connections[i].fd = -1;
        if (!connect_again(&load, &load.connections[i])) {
            fprintf(stderr, "cannot connect to port %d: %s\n", load.options.port, strerror(errno));
            return 1;
        }
    }
    load.start_ns = now_ns();
    load.stop_ns = load.start_ns + (long)(load.options.seconds * (double)NS_PER_S);
    if (load.options.slow_bytes) {
        run_slow(&load);
        return 0;
    }
    run_loops(&load);
    print_tally(&load.tally, load.start_ns);
    return 0;
}
