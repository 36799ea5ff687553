// A load client for one streaming gRPC method: one thread, epoll, HTTP/2 in clear text. Prints one line of JSON.
//
//     grpc_load --port N --path /PACKAGE.SERVICE/METHOD --body FILE [--header "name: value"]... [--connections N]
//               [--streams N] [--seconds S] [--chunks N] [--spread-ms N]
//
// A closed loop: each of the --streams calls of each connection is followed by another when its answer is complete.
// Calls first begin one after the other within --spread-ms, so that paced answers do not march in step; rates are those
// from then on. The file holds the serialized request message; a mark `#00000000#` in it is replaced as in load.c. An
// answer is good when its status is OK and at least --chunks stamps are in it (`@NANOSECONDS@`, see fake_engine.c), in
// however many messages.
#include "grpc_load.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX 256
#define READ_BYTES 262144
#define HEADERS_MAX 8
#define MESSAGE_BYTES_MAX 8192
#define MARK "#00000000#"
// Answers under way at the end get this long; then they count as cut.
#define GRACE_NS (5 * NS_PER_S)
#define NS_PER_MS 1000000L
#define WAIT_MS_MAX 100

typedef struct {
    int port, connections, streams;
    long chunks, spread_ms;
    double seconds;
    const char *path, *body_file, *headers[HEADERS_MAX];
    int header_count;
} Options;

struct Load {
    Options options;
    Buffer headers, request;
    char *mark;
    int epoll;
    Channel *channels;
    Tally tally;
    long start_ns, stop_ns, started;
    int begun, live;
};

Tally *tally_of(Load *load) { return &load->tally; }

// A channel has few streams, and its ids come in order: looking through them is cheaper than a table.
Stream *stream_of(Load *load, Channel *channel, unsigned id) {
    for (int i = 0; id && i < load->options.streams; i++)
        if (channel->streams[i].id == id) return &channel->streams[i];
    return NULL;
}

// --- requests

static void build_request(Load *load) {
    const Options *options = &load->options;
    char authority[32], message[MESSAGE_BYTES_MAX];
    snprintf(authority, sizeof authority, "127.0.0.1:%d", options->port);
    FILE *file = fopen(options->body_file, "rb");
    if (!file) {
        perror(options->body_file);
        exit(1);
    }
    size_t size = fread(message, 1, sizeof message, file);
    fclose(file);
    if (size == sizeof message) {
        fprintf(stderr, "%s: at most %d bytes\n", options->body_file, MESSAGE_BYTES_MAX - 1);
        exit(2);
    }
    append(&load->request, (char[]){0, 0, 0, (char)(size >> 8), (char)size}, 5);
    append(&load->request, message, size);
    load->mark = memmem(load->request.data, held(&load->request), MARK, strlen(MARK));
    append_header(&load->headers, ":method", "POST");
    append_header(&load->headers, ":scheme", "http");
    append_header(&load->headers, ":path", options->path);
    append_header(&load->headers, ":authority", authority);
    append_header(&load->headers, "te", "trailers");
    append_header(&load->headers, "content-type", "application/grpc");
    append_header(&load->headers, "user-agent", "longreach-bench");
    for (int i = 0; i < options->header_count; i++) {
        char name[64], value[128];
        if (sscanf(options->headers[i], "%63[^:]: %127[^\n]", name, value) != 2) {
            fprintf(stderr, "not a header: %s\n", options->headers[i]);
            exit(2);
        }
        append_header(&load->headers, name, value);
    }
}

static void begin(Load *load, Channel *channel, Stream *stream, long due_ns) {
    load->started++;
    if (load->mark) {
        char number[sizeof MARK];
        snprintf(number, sizeof number, "#%08lu#", (unsigned long)load->started % 100000000UL);
        memcpy(load->mark, number, strlen(MARK));
    }
    expect_answer(&stream->answer, due_ns);
    send_call(channel, stream, &load->headers, &load->request);
}

void finish(Load *load, Channel *channel, Stream *stream, bool is_complete, long now) {
    count_answer(&load->tally, &stream->answer, is_complete, load->options.chunks, now);
    stream->id = 0;
    stream->answer.is_busy = false;
    if (now >= load->stop_ns)
        load->live--;
    else
        begin(load, channel, stream, now);
}

// --- connections

static void fail(const Load *load, const char *what) {
    fprintf(stderr, "%s port %d: %s\n", what, load->options.port, errno ? strerror(errno) : "closed");
    exit(1);
}

static void flush(Load *load, Channel *channel) {
    Buffer *out = &channel->out;
    bool was_full = channel->is_full;
    channel->is_full = false;
    while (held(out)) {
        ssize_t sent = send(channel->fd, out->data + out->start, held(out), MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) fail(load, "lost the connection to");
        if (sent < 0) {
            channel->is_full = true;
            break;
        }
        out->start += (size_t)sent;
    }
    if (channel->is_full == was_full) return;
    struct epoll_event event = {EPOLLIN | (channel->is_full ? EPOLLOUT : 0), {.ptr = channel}};
    epoll_ctl(load->epoll, EPOLL_CTL_MOD, channel->fd, &event);
}

static void handle_event(Load *load, Channel *channel, unsigned flags) {
    if (flags & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        reserve(&channel->in, READ_BYTES);
        errno = 0;
        ssize_t got = recv(channel->fd, channel->in.data + channel->in.end, READ_BYTES, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN)) fail(load, "lost the connection to");
        if (got > 0) channel->in.end += (size_t)got;
        if (!read_frames(load, channel, now_ns())) fail(load, "sent away by");
    }
    flush(load, channel);
}

static void connect_all(Load *load) {
    load->channels = calloc((size_t)load->options.connections, sizeof(Channel));
    for (int i = 0; i < load->options.connections; i++) {
        Channel *channel = &load->channels[i];
        channel->streams = calloc((size_t)load->options.streams, sizeof(Stream));
        channel->fd = connect_loopback(load->options.port, 0, 0);
        if (channel->fd < 0) fail(load, "cannot connect to");
        struct epoll_event event = {EPOLLIN, {.ptr = channel}};
        epoll_ctl(load->epoll, EPOLL_CTL_ADD, channel->fd, &event);
        open_channel(channel);
        flush(load, channel);
    }
}

// --- the loop

// Begin the first calls that are due, connections in turn. Returns the milliseconds until the next one is.
static int begin_due(Load *load, long now) {
    const Options *options = &load->options;
    int all = options->connections * options->streams;
    for (; load->begun < all; load->begun++) {
        long due_ns = load->start_ns + options->spread_ms * NS_PER_MS * load->begun / all;
        if (due_ns > now) return (int)((due_ns - now) / NS_PER_MS) + 1;
        Channel *channel = &load->channels[load->begun % options->connections];
        begin(load, channel, &channel->streams[load->begun / options->connections], due_ns);
        flush(load, channel);
    }
    return WAIT_MS_MAX;
}

// Note what was counted when all calls had begun, and when no more are begun: the rates are those in between.
static void mark(Load *load, long now) {
    Tally *tally = &load->tally;
    if (!tally->begin_ns && load->begun == load->options.connections * load->options.streams) {
        tally->begin_ns = now;
        tally->requests_at_begin = tally->good;
        tally->chunks_at_begin = tally->chunks;
    }
    if (tally->end_ns || now < load->stop_ns) return;
    tally->end_ns = now;
    tally->requests_at_end = tally->good;
    tally->chunks_at_end = tally->chunks;
}

static void run(Load *load) {
    struct epoll_event events[EVENTS_MAX];
    load->start_ns = now_ns();
    load->stop_ns = load->start_ns + (long)(load->options.seconds * (double)NS_PER_S);
    load->live = load->options.connections * load->options.streams;
    for (long now = load->start_ns; load->live > 0 && now <= load->stop_ns + GRACE_NS; now = now_ns()) {
        int wait_ms = begin_due(load, now);
        int count = epoll_wait(load->epoll, events, EVENTS_MAX, wait_ms < WAIT_MS_MAX ? wait_ms : WAIT_MS_MAX);
        for (int i = 0; i < count; i++) handle_event(load, events[i].data.ptr, events[i].events);
        mark(load, now_ns());
    }
    for (int i = 0; i < load->options.connections * load->options.streams; i++) {
        Stream *stream = &load->channels[i % load->options.connections].streams[i / load->options.connections];
        if (stream->id) count_answer(&load->tally, &stream->answer, false, load->options.chunks, now_ns());
    }
}

// --- the command line

static void parse(int count, char **arguments, Options *options) {
    for (int i = 1; i + 1 < count; i += 2) {
        const char *name = arguments[i], *value = arguments[i + 1];
        if (!strcmp(name, "--port")) options->port = atoi(value);
        else if (!strcmp(name, "--body")) options->body_file = value;
        else if (!strcmp(name, "--path")) options->path = value;
        else if (!strcmp(name, "--connections")) options->connections = atoi(value);
        else if (!strcmp(name, "--streams")) options->streams = atoi(value);
        else if (!strcmp(name, "--seconds")) options->seconds = atof(value);
        else if (!strcmp(name, "--chunks")) options->chunks = atol(value);
        else if (!strcmp(name, "--spread-ms")) options->spread_ms = atol(value);
        else if (!strcmp(name, "--header") && options->header_count < HEADERS_MAX)
            options->headers[options->header_count++] = value;
        else {
            fprintf(stderr, "unknown or one too many: %s\n", name);
            exit(2);
        }
    }
    if (!options->body_file || !options->path || !options->port || options->connections < 1 || options->streams < 1) {
        fprintf(stderr, "--port, --path and --body are needed, --connections and --streams at least 1\n");
        exit(2);
    }
}

int main(int count, char **arguments) {
    static Load load = {.options = {.connections = 1, .streams = 1, .seconds = 1, .chunks = 1}};
    signal(SIGPIPE, SIG_IGN);
    die_with_parent();
    parse(count, arguments, &load.options);
    build_request(&load);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    connect_all(&load);
    run(&load);
    print_tally(&load.tally, load.start_ns);
    return 0;
}
