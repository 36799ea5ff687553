// The parts of the gRPC load client: one HTTP/2 connection with its streams, and the run around them.
#ifndef LONGREACH_BENCH_GRPC_LOAD_H
#define LONGREACH_BENCH_GRPC_LOAD_H

#include "load.h"

// A call; `answer` is what load_answers.c keeps of one over HTTP/1.1: due time, stamps, status.
typedef struct {
    unsigned id;  // 0: not begun yet
    Connection answer;
    // The five bytes in front of each message, as far as they are here, and what is left of the message.
    unsigned char prefix[5];
    unsigned prefix_bytes, message_left;
} Stream;

typedef struct {
    int fd;
    bool is_full;  // of what the kernel takes
    Buffer in, out;
    unsigned next_id, unacknowledged_bytes;
    Stream *streams;
} Channel;

typedef struct Load Load;

// grpc_http2.c: bytes of a connection. `request` is a message with its prefix, `headers` a header block.
void open_channel(Channel *channel);
void send_call(Channel *channel, Stream *stream, const Buffer *headers, const Buffer *request);
void append_header(Buffer *headers, const char *name, const char *value);
// Take all whole frames that are here; false when the connection is of no more use.
bool read_frames(Load *load, Channel *channel, long now);

// grpc_load.c
Stream *stream_of(Load *load, Channel *channel, unsigned id);
Tally *tally_of(Load *load);
// The call has ended, with all of its answer or without.
void finish(Load *load, Channel *channel, Stream *stream, bool is_complete, long now);

#endif
