// A fake vLLM server for measuring routers: one thread, epoll, HTTP/1.1 keep-alive, no model.
//
//     fake_engine --name NAME --model MODEL        prints the port it took, then serves until killed
//
// POST /v1/chat/completions and /v1/completions, streamed or not. Every piece of text is `@NANOSECONDS@`, the
// monotonic clock at its sending, so that a client on this machine knows each chunk's way. Speaks the replica's side
// of Longreach's protocol (cluster/core/wire.py): a request with `x-longreach-wants: outcome` gets the outcome.
// GET /ctl?ttft_us=N&itl_us=N sets the time to the first token and between tokens; GET /stats counts.
#include "fake_engine.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define EVENTS_MAX 256
#define BACKLOG 4096
// A fixed size: grown by the kernel, the buffers of a thousand streams with slow readers would take gigabytes.
#define SEND_BUFFER_BYTES 131072
// A stream that is this late does not send what it missed in one go.
#define LATE_NS 1000000L

// Send every token that is due. Returns the nanoseconds until the next one, -1 when none is to come.
static long send_due(Engine *engine) {
    long now = now_ns(), next_ns = -1;
    for (Connection *c = engine->runnable, *next; c; c = next) {
        next = c->next;
        if (c->due_ns <= now) {
            c->due_ns += engine->itl_ns;
            if (c->due_ns < now - LATE_NS) c->due_ns = now;
            if (!(c->is_stream ? send_token(engine, c) : send_whole(engine, c))) continue;
            if (!c->is_active) {
                serve(engine, c);
                continue;
            }
        }
        if (!c->is_blocked && (next_ns < 0 || c->due_ns < next_ns)) next_ns = c->due_ns;
    }
    if (engine->runnable && next_ns < 0) return 0;
    if (next_ns < 0) return -1;
    now = now_ns();
    return next_ns > now ? next_ns - now : 0;
}

static void accept_all(Engine *engine) {
    int fd, one = 1, buffer = SEND_BUFFER_BYTES;
    while ((fd = accept4(engine->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
        Connection *c = calloc(1, sizeof *c);
        c->fd = fd;
        engine->connections++;
        watch(engine, c, EPOLL_CTL_ADD);
    }
}

static void handle_event(Engine *engine, const struct epoll_event *event) {
    Connection *c = event->data.ptr;
    if (!c) {
        accept_all(engine);
    } else if (event->events & (EPOLLHUP | EPOLLERR)) {
        drop(engine, c);
    } else if (event->events & EPOLLOUT && !flush(engine, c)) {
        return;
    } else if (event->events & (EPOLLIN | EPOLLRDHUP)) {
        receive(engine, c);
    }
}

static void run(Engine *engine) {
    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        long wait_ns = send_due(engine);
        struct timespec wait = {wait_ns / NS_PER_S, wait_ns % NS_PER_S};
        int count = epoll_pwait2(engine->epoll, events, EVENTS_MAX, wait_ns < 0 ? NULL : &wait, NULL);
        for (int i = 0; i < count; i++) handle_event(engine, &events[i]);
    }
}

static int listen_on_free_port(Engine *engine) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    engine->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(engine->listener, (struct sockaddr *)&address, size) || listen(engine->listener, BACKLOG)) return -1;
    getsockname(engine->listener, (struct sockaddr *)&address, &size);
    struct epoll_event event = {EPOLLIN, {.ptr = NULL}};
    engine->epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(engine->epoll, EPOLL_CTL_ADD, engine->listener, &event);
    return ntohs(address.sin_port);
}

int main(int count, char **arguments) {
    Engine engine = {.name = "engine", .model = "fake"};
    for (int i = 1; i + 1 < count; i += 2) {
        if (!strcmp(arguments[i], "--name")) engine.name = arguments[i + 1];
        if (!strcmp(arguments[i], "--model")) engine.model = arguments[i + 1];
    }
    // Nobody is left behind when the bench is killed.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int port = listen_on_free_port(&engine);
    if (port < 0) {
        perror("cannot listen");
        return 1;
    }
    printf("%d\n", port);
    fflush(stdout);
    run(&engine);
}
