#define _GNU_SOURCE
#include "client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "protocol.h"

struct client *client_new(int fd, int number)
{
    struct client *client = calloc(1, sizeof *client);

    if (!client)
        return NULL;
    client->fd = fd;
    client->number = number;
    return client;
}

void client_free(struct client *client)
{
    close(client->fd);
    free(client->out);
    free(client);
}

short client_events(const struct client *client)
{
    return client->out_used > 0 ? POLLIN | POLLOUT : POLLIN;
}

static int reserve_output(struct client *client, size_t length)
{
    size_t size = client->out_size ? client->out_size : 128;
    char *grown;

    while (size < client->out_used + length)
        size *= 2;
    if (size == client->out_size)
        return 0;
    grown = realloc(client->out, size);
    if (!grown)
        return -1;
    client->out = grown;
    client->out_size = size;
    return 0;
}

void client_append(struct client *client, const char *text, size_t length)
{
    if (reserve_output(client, length) != 0) {
        client->closing = 1;
        return;
    }
    memcpy(client->out + client->out_used, text, length);
    client->out_used += length;
}

/* Writes what the socket takes; the rest waits for the next event. */
void client_flush(struct client *client)
{
    size_t done = 0;

    while (done < client->out_used) {
        ssize_t count = write(client->fd, client->out + done, client->out_used - done);

        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0) {
            if (errno != EAGAIN) {
                done = client->out_used;
                client->closing = 1;
            }
            break;
        }
        done += (size_t)count;
    }
    client->out_used -= done;
    if (client->out_used > 0)
        memmove(client->out, client->out + done, client->out_used);
}

/* Reads once. Bytes read, 0 at the end or after an error, -1 if nothing was there. */
static int fill_input(struct client *client)
{
    ssize_t count = read(client->fd, client->in + client->in_used,
                         sizeof client->in - client->in_used);

    if (count < 0)
        return errno == EAGAIN || errno == EINTR ? -1 : 0;
    client->in_used += (size_t)count;
    return (int)count;
}

/* Moves the next whole line out of the input. Its length, or -1 if there is none. */
static int take_line(struct client *client, char *line)
{
    char *end = memchr(client->in, '\n', client->in_used);
    size_t length;

    if (!end)
        return -1;
    length = (size_t)(end - client->in);
    memcpy(line, client->in, length);
    line[length] = '\0';
    client->in_used -= length + 1;
    memmove(client->in, end + 1, client->in_used);
    return (int)length;
}

static void handle_line(struct client *client, char *line)
{
    struct request request;
    int outcome;

    trim_line(line);
    split_line(line, &request);
    begin_request(client, &request);
    outcome = run_command(client, &request);
    finish_request(client, outcome);
}

enum client_outcome client_serve(struct client *client)
{
    char line[LINE_MAX_BYTES];

    if (fill_input(client) == 0)
        return CLIENT_GONE;
    while (!client->closing && take_line(client, line) >= 0)
        handle_line(client, line);
    client_flush(client);
    if (client->closing && client->out_used == 0)
        return CLIENT_GONE;
    return client->in_used == sizeof client->in ? CLIENT_OVERLONG : CLIENT_KEEP;
}
