// The parts of the fake engine: one connection with its answer, and the engine around them.
#ifndef LONGREACH_BENCH_FAKE_ENGINE_H
#define LONGREACH_BENCH_FAKE_ENGINE_H

#include "native.h"

typedef struct Connection {
    int fd;
    Buffer in, out;
    bool is_active, is_blocked;
    bool is_chat, is_stream, wants_usage, wants_outcome;
    long prompt_tokens, sent_tokens, left_tokens;
    long began_ns, first_ns, due_ns;
    char id[64];
    // What every event of this answer begins with, written once.
    Buffer event_start;
    struct Connection *previous, *next;
} Connection;

typedef struct {
    const char *name, *model;
    int epoll, listener;
    long ttft_ns, itl_ns;
    // Streams that may send; one whose client does not read is not among them.
    Connection *runnable;
    long requests, done, aborted, chunks, active, peak, connections;
} Engine;

// fake_connections.c: what a connection is doing. Those that return bool return false when the connection is gone.
void watch(Engine *engine, Connection *c, int operation);
void start_answer(Engine *engine, Connection *c);
void finish_answer(Engine *engine, Connection *c);
bool flush(Engine *engine, Connection *c);
void drop(Engine *engine, Connection *c);

// fake_answers.c: bytes of answers.
bool send_token(Engine *engine, Connection *c);
bool send_whole(Engine *engine, Connection *c);
bool send_small(Engine *engine, Connection *c, const char *status, const char *body);

// fake_requests.c: reading requests, and what each starts.
void receive(Engine *engine, Connection *c);
void serve(Engine *engine, Connection *c);

#endif
