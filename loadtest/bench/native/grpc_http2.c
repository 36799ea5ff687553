// HTTP/2 frames (RFC 9113) as far as one kind of call needs them: requests that are short, answers of any length.
//
// The peer may keep no table of headers (SETTINGS_HEADER_TABLE_SIZE 0), so every header comes as a literal (RFC 7541)
// and the call's status is found by its name. Windows are as large as they get: the client never holds the server up.
// The server's windows are not looked at: what is on its way to it at any time is far below the least of them.
#include "grpc_load.h"

#include <ctype.h>

enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW_UPDATE = 8 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define FRAME_HEAD_BYTES 9
#define WINDOW_MAX 0x7fffffffu
#define WINDOW_DEFAULT 65535u
// The connection's window is given back in large pieces: an update a frame would be work for the server.
#define WINDOW_PIECE_BYTES (256u << 20)
#define LITERAL_MAX 126
#define STATUS_OK 200
#define STATUS_NAME "grpc-status"

static void append_number(Buffer *to, unsigned value) {
    unsigned char bytes[4] = {(unsigned char)(value >> 24), (unsigned char)(value >> 16), (unsigned char)(value >> 8),
                              (unsigned char)value};
    append(to, (char *)bytes, sizeof bytes);
}

static unsigned read_number(const unsigned char *at) {
    return (unsigned)at[0] << 24 | (unsigned)at[1] << 16 | (unsigned)at[2] << 8 | at[3];
}

static void begin_frame(Buffer *to, unsigned size, unsigned char type, unsigned char flags, unsigned stream_id) {
    unsigned char head[5] = {(unsigned char)(size >> 16), (unsigned char)(size >> 8), (unsigned char)size, type, flags};
    append(to, (char *)head, sizeof head);
    append_number(to, stream_id);
}

static void append_setting(Buffer *to, unsigned char name, unsigned value) {
    append(to, (char[]){0, (char)name}, 2);
    append_number(to, value);
}

static void append_window_update(Buffer *to, unsigned bytes) {
    begin_frame(to, 4, WINDOW_UPDATE, 0, 0);
    append_number(to, bytes);
}

void open_channel(Channel *channel) {
    Buffer *out = &channel->out;
    channel->next_id = 1;
    append(out, PREFACE, strlen(PREFACE));
    begin_frame(out, 3 * 6, SETTINGS, 0, 0);
    append_setting(out, 1, 0);           // HEADER_TABLE_SIZE
    append_setting(out, 2, 0);           // ENABLE_PUSH
    append_setting(out, 4, WINDOW_MAX);  // INITIAL_WINDOW_SIZE
    append_window_update(out, WINDOW_MAX - WINDOW_DEFAULT);
}

// A literal that no table keeps, its name and its value in plain text.
void append_header(Buffer *headers, const char *name, const char *value) {
    if (strlen(name) > LITERAL_MAX || strlen(value) > LITERAL_MAX) {
        fprintf(stderr, "a header is too long: %s\n", name);
        exit(2);
    }
    append(headers, (char[]){0, (char)strlen(name)}, 2);
    append(headers, name, strlen(name));
    append(headers, (char[]){(char)strlen(value)}, 1);
    append(headers, value, strlen(value));
}

void send_call(Channel *channel, Stream *stream, const Buffer *headers, const Buffer *request) {
    stream->id = channel->next_id;
    stream->prefix_bytes = stream->message_left = 0;
    channel->next_id += 2;
    begin_frame(&channel->out, (unsigned)held(headers), HEADERS, END_HEADERS, stream->id);
    append(&channel->out, headers->data, held(headers));
    begin_frame(&channel->out, (unsigned)held(request), DATA, END_STREAM, stream->id);
    append(&channel->out, request->data, held(request));
}

// Count the messages that begin in these bytes.
static void read_prefixes(Tally *tally, Stream *stream, const unsigned char *at, unsigned size) {
    while (size) {
        if (stream->message_left) {
            unsigned here = size < stream->message_left ? size : stream->message_left;
            stream->message_left -= here;
            at += here;
            size -= here;
            continue;
        }
        stream->prefix[stream->prefix_bytes++] = *at++;
        size--;
        if (stream->prefix_bytes < sizeof stream->prefix) continue;
        stream->prefix_bytes = 0;
        stream->message_left = read_number(stream->prefix + 1);
        tally->messages++;
    }
}

// The call's status in a header block: 200 for OK, as HTTP has it, else gRPC's number; 0 where there is none.
static int read_status(const unsigned char *block, unsigned size) {
    const unsigned char *found = memmem(block, size, STATUS_NAME, strlen(STATUS_NAME));
    if (!found) return 0;
    const unsigned char *digits = found + strlen(STATUS_NAME) + 1;
    int status = 0;
    for (unsigned i = 0; i < digits[-1] && digits + i < block + size && isdigit(digits[i]); i++)
        status = status * 10 + digits[i] - '0';
    return status ? status : STATUS_OK;
}

static void read_data(Load *load, Channel *channel, Stream *stream, const unsigned char *content, unsigned size, long now) {
    channel->unacknowledged_bytes += size;
    if (channel->unacknowledged_bytes >= WINDOW_PIECE_BYTES) {
        append_window_update(&channel->out, channel->unacknowledged_bytes);
        channel->unacknowledged_bytes = 0;
    }
    if (!stream) return;
    read_prefixes(tally_of(load), stream, content, size);
    read_stamps(tally_of(load), &stream->answer, (const char *)content, size, now);
}

static bool read_frame(Load *load, Channel *channel, const unsigned char *head, unsigned size, long now) {
    const unsigned char *content = head + FRAME_HEAD_BYTES, flags = head[4];
    Stream *stream = stream_of(load, channel, read_number(head + 5));
    switch (head[3]) {
        case DATA:
            read_data(load, channel, stream, content, size, now);
            break;
        case HEADERS:
            if (stream) stream->answer.status = read_status(content, size);
            if (stream && flags & END_STREAM) finish(load, channel, stream, true, now);
            break;
        case RST_STREAM:
            if (stream) finish(load, channel, stream, false, now);
            break;
        case SETTINGS:
            if (!(flags & ACK)) begin_frame(&channel->out, 0, SETTINGS, ACK, 0);
            break;
        case PING:
            if (flags & ACK) break;
            begin_frame(&channel->out, size, PING, ACK, 0);
            append(&channel->out, (const char *)content, size);
            break;
        case GOAWAY:
            return false;
        default:
            break;
    }
    return true;
}

bool read_frames(Load *load, Channel *channel, long now) {
    Buffer *in = &channel->in;
    bool is_usable = true;
    while (is_usable && held(in) >= FRAME_HEAD_BYTES) {
        const unsigned char *head = (const unsigned char *)in->data + in->start;
        unsigned size = read_number(head) >> 8;
        if (held(in) < FRAME_HEAD_BYTES + size) break;
        is_usable = read_frame(load, channel, head, size, now);
        in->start += FRAME_HEAD_BYTES + size;
    }
    compact(in);
    return is_usable;
}
