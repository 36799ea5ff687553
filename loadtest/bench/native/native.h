// What the fake engine and the load client share: a growing byte buffer, the clock, a bounded search.
#ifndef LONGREACH_BENCH_NATIVE_H
#define LONGREACH_BENCH_NATIVE_H

#define _GNU_SOURCE
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S 1000000000L
#define NS_PER_US 1000L

// Every process of a run reads the same monotonic clock, so a stamp of one can be compared in another.
static inline long now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * NS_PER_S + at.tv_nsec;
}

// Bytes `start` to `end` of `data` are held; what lies before `start` has been used up.
typedef struct {
    char *data;
    size_t start, end, capacity;
} Buffer;

static inline size_t held(const Buffer *buffer) { return buffer->end - buffer->start; }

// Make room for `size` more bytes and a terminating zero.
static inline void reserve(Buffer *buffer, size_t size) {
    if (buffer->start == buffer->end) buffer->start = buffer->end = 0;
    if (buffer->end + size + 1 <= buffer->capacity) return;
    buffer->capacity = 2 * (buffer->end + size + 1);
    buffer->data = realloc(buffer->data, buffer->capacity);
    if (!buffer->data) {
        perror("out of memory");
        exit(1);
    }
}

static inline void append(Buffer *buffer, const char *bytes, size_t size) {
    reserve(buffer, size);
    memcpy(buffer->data + buffer->end, bytes, size);
    buffer->end += size;
}

// Formatted text mostly fits this; then it is written once, in place.
#define FORMAT_BYTES 512

__attribute__((format(printf, 2, 3))) static inline void append_format(Buffer *buffer, const char *format, ...) {
    for (size_t room = FORMAT_BYTES;;) {
        va_list arguments;
        reserve(buffer, room);
        va_start(arguments, format);
        size_t size = (size_t)vsnprintf(buffer->data + buffer->end, room, format, arguments);
        va_end(arguments);
        if (size < room) {
            buffer->end += size;
            return;
        }
        room = size + 1;
    }
}

// Drop everything held before `start`, so that `data` begins with what is left.
static inline void compact(Buffer *buffer) {
    memmove(buffer->data, buffer->data + buffer->start, held(buffer));
    buffer->end -= buffer->start;
    buffer->start = 0;
}

// The value of a header within a head that ends with a zero; NULL when it has none. `name` ends with a colon.
static inline const char *header_value(const char *head, const char *name) {
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        if (!strncasecmp(line + 2, name, strlen(name))) {
            const char *value = line + 2 + strlen(name);
            return value + strspn(value, " \t");
        }
    }
    return NULL;
}

#endif
