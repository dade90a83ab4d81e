/* A connection: its buffers, reading lines from it, writing replies to it. */
#ifndef KVD_CLIENT_H
#define KVD_CLIENT_H

#include <stddef.h>

#define LINE_MAX_BYTES 256

enum client_outcome { CLIENT_KEEP, CLIENT_GONE, CLIENT_OVERLONG };

struct client {
    int fd;
    int number;               /* 1 for the first connection, and so on */
    int closing;              /* close once the output is written */
    char in[LINE_MAX_BYTES];
    size_t in_used;
    char *out;
    size_t out_used;
    size_t out_size;
};

struct client *client_new(int fd, int number);
void client_free(struct client *client);
short client_events(const struct client *client);
enum client_outcome client_serve(struct client *client);
void client_append(struct client *client, const char *text, size_t length);
void client_flush(struct client *client);

#endif
