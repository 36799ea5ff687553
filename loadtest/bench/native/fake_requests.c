// Requests to the fake engine: framing, the few fields it looks at, routes.
#include "fake_engine.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#define READ_BYTES 65536
// Fields of a body are looked for in this much of both of its ends: searching megabytes of prompt would cost more
// than the router under test.
#define FIELD_SEARCH_BYTES 1024
#define TOKENS_DEFAULT 16
#define BYTES_PER_TOKEN 4

static const char *find_field(const char *body, size_t size, const char *name) {
    size_t near = size < FIELD_SEARCH_BYTES ? size : FIELD_SEARCH_BYTES;
    const char *found = memmem(body, near, name, strlen(name));
    if (!found) found = memmem(body + size - near, near, name, strlen(name));
    if (!found) return NULL;
    found += strlen(name);
    return found + strspn(found, " :");
}

static long number_field(const char *body, size_t size, const char *name, long otherwise) {
    const char *value = find_field(body, size, name);
    return value && *value >= '0' && *value <= '9' ? atol(value) : otherwise;
}

static bool true_field(const char *body, size_t size, const char *name) {
    const char *value = find_field(body, size, name);
    return value && !strncmp(value, "true", 4);
}

static bool answer_get(Engine *engine, Connection *c, const char *path) {
    char text[512] = "";
    const char *ttft = strstr(path, "ttft_us="), *itl = strstr(path, "itl_us=");
    if (!strncmp(path, "/ctl?", 5)) {
        if (ttft) engine->ttft_ns = atol(ttft + strlen("ttft_us=")) * NS_PER_US;
        if (itl) engine->itl_ns = atol(itl + strlen("itl_us=")) * NS_PER_US;
    } else if (!strcmp(path, "/stats")) {
        snprintf(text, sizeof text,
                 "{\"name\":\"%s\",\"requests\":%ld,\"done\":%ld,\"aborted\":%ld,\"chunks\":%ld,\"active\":%ld,"
                 "\"peak\":%ld,\"connections\":%ld}",
                 engine->name, engine->requests, engine->done, engine->aborted, engine->chunks, engine->active,
                 engine->peak, engine->connections);
    } else if (!strcmp(path, "/v1/models")) {
        snprintf(text, sizeof text,
                 "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"created\":1700000000,"
                 "\"owned_by\":\"vllm\",\"max_model_len\":262144}]}",
                 engine->model);
    } else if (strstr(path, "model_info") || strstr(path, "server_info")) {  // what SGLang's router asks
        snprintf(text, sizeof text, "{\"model_path\":\"%s\",\"served_model_name\":\"%s\",\"is_generation\":true}",
                 engine->model, engine->model);
    } else if (strcmp(path, "/health") && strcmp(path, "/health_generate")) {
        return send_small(engine, c, "404 Not Found", "{\"detail\":\"Not Found\"}");
    }
    return send_small(engine, c, "200 OK", text);
}

static bool answer_post(Engine *engine, Connection *c, const char *path, const char *head, const char *body, size_t size) {
    c->is_chat = !strcmp(path, "/v1/chat/completions");
    if (!c->is_chat && strcmp(path, "/v1/completions"))
        return send_small(engine, c, "404 Not Found", "{\"detail\":\"Not Found\"}");
    const char *wants = header_value(head, "x-longreach-wants:");
    c->wants_outcome = wants && !strncmp(wants, "outcome", strlen("outcome"));
    c->wants_usage = true_field(body, size, "\"include_usage\"");
    c->is_stream = true_field(body, size, "\"stream\"");
    c->left_tokens = number_field(body, size, "\"max_completion_tokens\"", TOKENS_DEFAULT);
    c->left_tokens = number_field(body, size, "\"max_tokens\"", c->left_tokens);
    if (c->left_tokens < 1) c->left_tokens = 1;
    c->sent_tokens = 0;
    c->prompt_tokens = number_field(body, size, "\"x_prompt_tokens\"", 1 + (long)size / BYTES_PER_TOKEN);
    snprintf(c->id, sizeof c->id, "%s-%.24s-%08lx", c->is_chat ? "chatcmpl" : "cmpl", engine->name, ++engine->requests);
    c->first_ns = 0;
    c->began_ns = now_ns();
    c->due_ns = c->began_ns + engine->ttft_ns + (c->is_stream ? 0 : engine->itl_ns * (c->left_tokens - 1));
    start_answer(engine, c);
    return true;
}

// Join the chunks of a chunked body in place. Returns the bytes it took, 0 when it is not complete; `size` is its size.
static size_t join_chunks(char *body, size_t available, size_t *size) {
    size_t at = 0;
    *size = 0;
    for (;;) {
        char *line_end = memmem(body + at, available - at, "\r\n", 2);
        if (!line_end) return 0;
        size_t chunk = strtoul(body + at, NULL, 16);
        size_t content = (size_t)(line_end - body) + 2;
        if (content + chunk + 2 > available) return 0;
        if (chunk == 0) return content + 2;
        memmove(body + *size, body + content, chunk);
        *size += chunk;
        at = content + chunk + 2;
    }
}

// Whether all of a chunked body is here; it is joined only then, because joining moves bytes.
static bool has_last_chunk(const char *body, size_t available) {
    return available >= 5 && !memcmp(body + available - 5, "0\r\n\r\n", 5);
}

// Answer the next request if all of it is here. False when the connection is gone; `*took` tells whether one was.
static bool next_request(Engine *engine, Connection *c, bool *took) {
    *took = false;
    char *head = c->in.data + c->in.start;
    char *head_end = memmem(head, held(&c->in), "\r\n\r\n", 4);
    if (!head_end) return true;
    char *body = head_end + 4;
    size_t available = held(&c->in) - (size_t)(body - head), size = 0, taken;
    char method[8], path[256];
    *head_end = 0;
    const char *length = header_value(head, "content-length:");
    bool is_chunked = header_value(head, "transfer-encoding:") != NULL;
    if (is_chunked) {
        taken = has_last_chunk(body, available) ? join_chunks(body, available, &size) : 0;
    } else {
        taken = size = length ? strtoul(length, NULL, 10) : 0;
    }
    if (available < size || (is_chunked && !taken)) {
        *head_end = '\r';
        return true;
    }
    *took = true;
    c->in.start += (size_t)(body - head) + taken;
    if (sscanf(head, "%7s %255s", method, path) != 2) {
        drop(engine, c);
        return false;
    }
    return strcmp(method, "POST") ? answer_get(engine, c, path) : answer_post(engine, c, path, head, body, size);
}

// Answer requests that have arrived, until one is under way.
void serve(Engine *engine, Connection *c) {
    bool took = true;
    while (took && held(&c->in) && !c->is_active)
        if (!next_request(engine, c, &took)) return;
    if (c->in.start) compact(&c->in);
}

void receive(Engine *engine, Connection *c) {
    for (;;) {
        reserve(&c->in, READ_BYTES);
        size_t room = c->in.capacity - c->in.end - 1;
        ssize_t got = recv(c->fd, c->in.data + c->in.end, room, 0);
        if (got < 0 && errno == EAGAIN) break;
        if (got <= 0) {
            drop(engine, c);
            return;
        }
        c->in.end += (size_t)got;
        if ((size_t)got < room) break;
    }
    serve(engine, c);
}
