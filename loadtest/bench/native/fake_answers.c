// What the fake engine answers: vLLM's chunks and bodies, and what a Longreach replica adds to them.
#include "fake_engine.h"

// Stamps in an answer that is not a stream: it goes out in one piece, so more would say nothing more.
#define STAMPS_MAX 300

static void append_outcome(const Connection *c, Buffer *to) {
    long now = now_ns(), first_ns = c->first_ns ? c->first_ns : now;
    append_format(to,
                  "{\"prompt_tokens\":%ld,\"output_tokens\":%ld,\"cached_tokens\":0,\"queue_s\":0.0,"
                  "\"prefill_s\":%.6f,\"decode_s\":%.6f}",
                  c->prompt_tokens, c->sent_tokens, (double)(first_ns - c->began_ns) / NS_PER_S,
                  (double)(now - first_ns) / NS_PER_S);
}

static void append_usage(const Connection *c, Buffer *to) {
    append_format(to, "{\"prompt_tokens\":%ld,\"total_tokens\":%ld,\"completion_tokens\":%ld}", c->prompt_tokens,
                  c->prompt_tokens + c->sent_tokens, c->sent_tokens);
}

// One chunk of a chunked body, its content in `piece`, which is emptied.
static void append_chunk(Connection *c, Buffer *piece) {
    append_format(&c->out, "%zx\r\n", held(piece));
    append(&c->out, piece->data + piece->start, held(piece));
    append(&c->out, "\r\n", 2);
    piece->start = piece->end = 0;
}

static void begin_event(const Connection *c, Buffer *piece) {
    append(piece, c->event_start.data, held(&c->event_start));
}

static void open_stream(const Engine *engine, Connection *c, Buffer *piece) {
    c->event_start.start = c->event_start.end = 0;
    append_format(&c->event_start,
                  "data: {\"id\":\"%s\",\"object\":\"%s\",\"created\":1700000000,\"model\":\"%s\",\"choices\":[", c->id,
                  c->is_chat ? "chat.completion.chunk" : "text_completion", engine->model);
    append_format(&c->out, "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                           "transfer-encoding: chunked\r\n\r\n");
    if (!c->is_chat) return;
    begin_event(c, piece);
    append_format(piece, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                         "\"finish_reason\":null}]}\n\n");
    append_chunk(c, piece);
}

static void close_stream(Engine *engine, Connection *c, Buffer *piece) {
    if (c->wants_usage) {
        begin_event(c, piece);
        append_format(piece, "],\"usage\":");
        append_usage(c, piece);
        append_format(piece, "}\n\n");
        append_chunk(c, piece);
    }
    append_format(piece, "data: [DONE]\n\n");
    append_chunk(c, piece);
    if (c->wants_outcome) {
        append_format(piece, ": longreach-outcome ");
        append_outcome(c, piece);
        append_format(piece, "\n\n");
        append_chunk(c, piece);
    }
    append_format(&c->out, "0\r\n\r\n");
    engine->done++;
    finish_answer(engine, c);
}

// The stream's next token; false when the connection is gone.
bool send_token(Engine *engine, Connection *c) {
    static Buffer piece;  // scratch: empty between calls, its memory is kept
    if (!c->sent_tokens) open_stream(engine, c, &piece);
    bool is_last = c->left_tokens == 1;
    const char *finish = is_last ? "\"length\"" : "null";
    long now = now_ns();
    if (!c->first_ns) c->first_ns = now;
    begin_event(c, &piece);
    append_format(&piece, "{\"index\":0,%s\"@%ld@ \"%s,\"logprobs\":null,\"finish_reason\":%s}]}\n\n",
                  c->is_chat ? "\"delta\":{\"content\":" : "\"text\":", now, c->is_chat ? "}" : "", finish);
    append_chunk(c, &piece);
    engine->chunks++;
    c->sent_tokens++;
    c->left_tokens--;
    if (is_last) close_stream(engine, c, &piece);
    return flush(engine, c);
}

// A whole answer that is not a stream; false when the connection is gone.
bool send_whole(Engine *engine, Connection *c) {
    Buffer body = {0};
    c->sent_tokens = c->left_tokens;
    append_format(&body, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":1700000000,\"model\":\"%s\",\"choices\":[{\"index\":0,%s\"",
                  c->id, c->is_chat ? "chat.completion" : "text_completion", engine->model,
                  c->is_chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
    long now = now_ns();
    for (long stamps = 0; stamps < c->sent_tokens && stamps < STAMPS_MAX; stamps++) append_format(&body, "@%ld@ ", now);
    append_format(&body, "\"%s,\"logprobs\":null,\"finish_reason\":\"length\"}],\"usage\":", c->is_chat ? "}" : "");
    append_usage(c, &body);
    append_format(&body, "}");
    append_format(&c->out, "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n",
                  held(&body));
    if (c->wants_outcome) {
        append_format(&c->out, "x-longreach-outcome: ");
        append_outcome(c, &c->out);
        append_format(&c->out, "\r\n");
    }
    append_format(&c->out, "\r\n");
    append(&c->out, body.data, held(&body));
    free(body.data);
    engine->chunks++;
    engine->done++;
    finish_answer(engine, c);
    return flush(engine, c);
}

bool send_small(Engine *engine, Connection *c, const char *status, const char *body) {
    append_format(&c->out, "HTTP/1.1 %s\r\nserver: uvicorn\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
                  status, strlen(body), body);
    return flush(engine, c);
}
