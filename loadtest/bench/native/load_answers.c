// Reading an answer as it arrives: head, body by length or by chunks, stamps in it. Nothing of a body is kept.
#include "load.h"

void expect_answer(Connection *c, long due_ns) {
    c->is_busy = true;
    c->is_chunked = c->has_head = c->must_close = c->in_stamp = false;
    c->status = 0;
    c->sent = c->head_bytes = 0;
    c->due_ns = due_ns;
    c->stamps = c->got_bytes = c->chunk_left = 0;
    c->content_bytes = -1;
    c->chunk_state = CHUNK_SIZE;
}

bool ends_at_close(const Connection *c) { return c->has_head && !c->is_chunked && c->content_bytes < 0; }

static void found_stamp(Tally *tally, Connection *c, long now) {
    if (!c->stamps++) add_sample(&tally->ttft, now - c->due_ns);
    tally->chunks++;
    add_sample(&tally->chunk, now - c->stamp_ns);
}

// A stamp is digits between two `@`; it may be cut anywhere by the end of what has arrived. An `@` right before one is
// none of it: in front of a text in a gRPC message it is the text's length.
void read_stamps(Tally *tally, Connection *c, const char *bytes, size_t size, long now) {
    for (const char *at = bytes, *end = bytes + size; at < end; at++) {
        if (!c->in_stamp) {
            at = memchr(at, '@', (size_t)(end - at));
            if (!at) return;
            c->in_stamp = true;
            c->stamp_ns = 0;
        } else if (*at >= '0' && *at <= '9') {
            c->stamp_ns = c->stamp_ns * 10 + (*at - '0');
        } else if (*at != '@' || c->stamp_ns > 0) {
            if (*at == '@') found_stamp(tally, c, now);
            c->in_stamp = false;
        }
    }
}

// Take bytes of the head; returns how many were taken.
static size_t read_head(Connection *c, const char *bytes, size_t size) {
    size_t taken = 0;
    while (taken < size && !c->has_head) {
        if (c->head_bytes < HEAD_BYTES_MAX - 1) c->head[c->head_bytes++] = bytes[taken];
        taken++;
        if (c->head_bytes < 4 || memcmp(c->head + c->head_bytes - 4, "\r\n\r\n", 4)) continue;
        c->head[c->head_bytes] = 0;
        c->head_bytes = 0;
        c->status = atoi(c->head + strlen("HTTP/1.1 "));
        if (c->status == 100) continue;
        c->has_head = true;
    }
    if (!c->has_head) return taken;
    const char *length = header_value(c->head, "content-length:");
    const char *coding = header_value(c->head, "transfer-encoding:");
    const char *connection = header_value(c->head, "connection:");
    if (length) c->content_bytes = atol(length);
    c->is_chunked = coding && !strncasecmp(coding, "chunked", strlen("chunked"));
    c->must_close = connection && !strncasecmp(connection, "close", strlen("close"));
    return taken;
}

static int hex_digit(char letter) {
    if (letter >= '0' && letter <= '9') return letter - '0';
    if (letter >= 'a' && letter <= 'f') return letter - 'a' + 10;
    return letter >= 'A' && letter <= 'F' ? letter - 'A' + 10 : -1;
}

// Take bytes of a chunked body; true when it is complete.
static bool read_chunked(Tally *tally, Connection *c, const char *bytes, size_t size, long now) {
    for (size_t at = 0; at < size;) {
        if (c->chunk_state == CHUNK_BODY) {
            size_t here = size - at < (size_t)c->chunk_left ? size - at : (size_t)c->chunk_left;
            read_stamps(tally, c, bytes + at, here, now);
            at += here;
            c->chunk_left -= (long)here;
            if (!c->chunk_left) c->chunk_state = CHUNK_END;
            continue;
        }
        char letter = bytes[at++];
        if (c->chunk_state == CHUNK_SIZE && letter != '\n') {
            int digit = hex_digit(letter);
            if (digit >= 0) c->chunk_left = c->chunk_left * 16 + digit;
        } else if (c->chunk_state == CHUNK_SIZE) {
            c->chunk_state = c->chunk_left ? CHUNK_BODY : TRAILER;
        } else if (letter == '\n' && c->chunk_state == CHUNK_END) {
            c->chunk_state = CHUNK_SIZE;
        } else if (letter == '\n') {
            return true;
        }
    }
    return false;
}

bool read_answer(Tally *tally, Connection *c, const char *bytes, size_t size, long now) {
    if (!c->has_head) {
        size_t taken = read_head(c, bytes, size);
        bytes += taken;
        size -= taken;
    }
    if (!c->has_head) return false;
    if (c->is_chunked) return read_chunked(tally, c, bytes, size, now);
    read_stamps(tally, c, bytes, size, now);
    c->got_bytes += (long)size;
    return c->content_bytes >= 0 && c->got_bytes >= c->content_bytes;
}
