// A connection of the fake engine: idle, answering, or blocked by a client that does not read.
#include "fake_engine.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void link_runnable(Engine *engine, Connection *c) {
    c->previous = NULL;
    c->next = engine->runnable;
    if (c->next) c->next->previous = c;
    engine->runnable = c;
}

static void unlink_runnable(Engine *engine, Connection *c) {
    if (c->previous) c->previous->next = c->next;
    if (c->next) c->next->previous = c->previous;
    if (engine->runnable == c) engine->runnable = c->next;
}

void start_answer(Engine *engine, Connection *c) {
    c->is_active = true;
    if (++engine->active > engine->peak) engine->peak = engine->active;
    if (!c->is_blocked) link_runnable(engine, c);
}

void finish_answer(Engine *engine, Connection *c) {
    if (!c->is_active) return;
    c->is_active = false;
    engine->active--;
    if (!c->is_blocked) unlink_runnable(engine, c);
}

void drop(Engine *engine, Connection *c) {
    if (c->is_active) engine->aborted++;
    finish_answer(engine, c);
    engine->connections--;
    close(c->fd);
    free(c->in.data);
    free(c->out.data);
    free(c->event_start.data);
    free(c);
}

void watch(Engine *engine, Connection *c, int operation) {
    struct epoll_event event = {EPOLLIN | EPOLLRDHUP | (c->is_blocked ? EPOLLOUT : 0), {.ptr = c}};
    epoll_ctl(engine->epoll, operation, c->fd, &event);
}

static void set_blocked(Engine *engine, Connection *c, bool is_blocked) {
    if (c->is_blocked == is_blocked) return;
    c->is_blocked = is_blocked;
    watch(engine, c, EPOLL_CTL_MOD);
    if (!c->is_active) return;
    if (is_blocked)
        unlink_runnable(engine, c);
    else
        link_runnable(engine, c);
}

// Send what is waiting; false when the connection is gone.
bool flush(Engine *engine, Connection *c) {
    while (held(&c->out)) {
        ssize_t sent = send(c->fd, c->out.data + c->out.start, held(&c->out), MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            set_blocked(engine, c, true);
            return true;
        }
        if (sent < 0) {
            drop(engine, c);
            return false;
        }
        c->out.start += (size_t)sent;
    }
    set_blocked(engine, c, false);
    return true;
}
