// The parts of the load client: one connection with the answer it reads, and what is counted over all of them.
#ifndef LONGREACH_BENCH_LOAD_H
#define LONGREACH_BENCH_LOAD_H

#include "native.h"

#define HEAD_BYTES_MAX 16384
#define STATUS_MAX 600

typedef enum { CHUNK_SIZE, CHUNK_BODY, CHUNK_END, TRAILER } ChunkState;

typedef struct {
    int fd;
    bool is_busy, is_chunked, has_head, must_close;
    int status;
    size_t sent;
    long due_ns, stamps;
    long content_bytes, got_bytes;  // of a body with a length; -1: it ends when the connection does
    ChunkState chunk_state;
    long chunk_left;
    bool in_stamp;
    long stamp_ns;
    char head[HEAD_BYTES_MAX];
    size_t head_bytes;
} Connection;

// Latencies in nanoseconds.
typedef struct {
    unsigned *values;
    size_t count, capacity;
} Samples;

typedef struct {
    Samples ttft, chunk, request;
    long good, bad, incomplete, cut, chunks;
    long messages;  // of gRPC
    long end_ns, requests_at_end, chunks_at_end, last_ns;
    long begin_ns, requests_at_begin, chunks_at_begin;  // of a run whose load grows at first: when it was all there
    long status[STATUS_MAX];
} Tally;

// load_answers.c: reading answers.
void expect_answer(Connection *c, long due_ns);
// Count the stamps in bytes of a body.
void read_stamps(Tally *tally, Connection *c, const char *bytes, size_t size, long now);
// True when the answer is complete.
bool read_answer(Tally *tally, Connection *c, const char *bytes, size_t size, long now);
// Whether an answer whose connection closed now is complete.
bool ends_at_close(const Connection *c);

// load_tally.c: counting and printing.
void add_sample(Samples *samples, long value_ns);
void count_answer(Tally *tally, Connection *c, bool is_complete, long chunks_wanted, long now);
void print_tally(Tally *tally, long start_ns);

// load_socket.c
// A non-blocking connection, -1 when there is none. With `segment_bytes` the server sees small segments and a small
// window of `receive_bytes`.
int connect_loopback(int port, int segment_bytes, int receive_bytes);
void die_with_parent(void);

#endif
