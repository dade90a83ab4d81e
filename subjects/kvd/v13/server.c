#define _GNU_SOURCE
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"
#include "commands.h"
#include "greeting.h"
#include "log.h"
#include "protocol.h"
#include "quota.h"
#include "table.h"

#define CLIENT_SLOTS 6

static int listener = -1;
static const struct options *options_in_use;
static int clients_seen;
static struct client *clients[CLIENT_SLOTS];
static struct pollfd poll_set[1 + CLIENT_SLOTS]; /* the listener, then a place for each slot */
static sigset_t waiting_mask;                    /* signals blocked while the loop waits */
static volatile sig_atomic_t stop_requested;

static void on_stop_signal(int number)
{
    (void)number;
    stop_requested = 1;
}

/* The stop signal is open only while the loop waits, so that it is never missed. */
static int catch_signals(void)
{
    struct sigaction action;
    sigset_t blocked;

    memset(&action, 0, sizeof action);
    action.sa_handler = on_stop_signal;
    sigemptyset(&action.sa_mask);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    if (sigprocmask(SIG_BLOCK, &blocked, &waiting_mask) != 0)
        return -1;
    sigdelset(&waiting_mask, SIGTERM);
    sigdelset(&waiting_mask, SIGINT);
    if (sigaction(SIGTERM, &action, NULL) != 0 || sigaction(SIGINT, &action, NULL) != 0)
        return -1;
    action.sa_handler = SIG_IGN;
    return sigaction(SIGPIPE, &action, NULL);
}

static int open_listener(int port)
{
    struct sockaddr_in address;
    int on = 1;

    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0)
        return -1;
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0
        || bind(listener, (struct sockaddr *)&address, sizeof address) != 0
        || listen(listener, 16) != 0)
        return -1;
    return 0;
}

int server_start(const struct options *options)
{
    if (log_open(options->log_path) != 0 || table_start() != 0 || catch_signals() != 0)
        return -1;
    options_in_use = options;
    quota_start(QUOTA_KEYS, "start");
    make_greeting();
    log_line("start");
    return open_listener(options->port);
}

static void fill_poll_set(void)
{
    poll_set[0].fd = listener;
    poll_set[0].events = POLLIN;
    poll_set[0].revents = 0;
    for (int slot = 0; slot < CLIENT_SLOTS; slot++) {
        struct pollfd *place = &poll_set[1 + slot];

        place->fd = clients[slot] ? clients[slot]->fd : -1;
        place->events = clients[slot] ? client_events(clients[slot]) : 0;
        place->revents = 0;
    }
}

/* Waits for the next event. -1: the server was asked to stop. */
static int wait_for_events(void)
{
    fill_poll_set();
    while (!stop_requested) {
        int ready = ppoll(poll_set, 1 + CLIENT_SLOTS, NULL, &waiting_mask);

        if (ready >= 0)
            return ready;
        if (errno != EINTR)
            return -1;
    }
    return -1;
}

static int free_slot(void)
{
    for (int slot = 0; slot < CLIENT_SLOTS; slot++) {
        if (!clients[slot])
            return slot;
    }
    return -1;
}

static void accept_client(void)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int slot = free_slot();
    struct client *client;

    if (fd < 0)
        return;
    client = slot < 0 ? NULL : client_new(fd, clients_seen + 1);
    if (!client) {
        close(fd);
        return;
    }
    clients_seen++;
    clients[slot] = client;
    log_event(client->number, "open");
    reply_text(client, greeting());
    client_flush(client);
}

static void close_client(int slot)
{
    log_event(clients[slot]->number, "close");
    client_free(clients[slot]);
    clients[slot] = NULL;
}

/* The event loop. Nothing is in flight when it waits. */
void server_run(void)
{
    for (;;) {
        if (wait_for_events() < 0)
            break;
        for (int slot = 0; slot < CLIENT_SLOTS; slot++) {
            enum client_outcome outcome;

            if (!clients[slot] || !poll_set[1 + slot].revents)
                continue;
            outcome = client_serve(clients[slot]);
            if (outcome == CLIENT_OVERLONG) {
                reply_error(clients[slot], "line longer than 256 bytes");
                client_flush(clients[slot]);
            }
            if (outcome != CLIENT_KEEP)
                close_client(slot);
        }
        if (poll_set[0].revents)
            accept_client();
    }
}

void server_describe(char *text, int size)
{
    snprintf(text, (size_t)size, "port %d dump %s copy %s", options_in_use->port,
             options_in_use->dump_path ? "yes" : "no", options_in_use->copy_path ? "yes" : "no");
}

int server_stop(const struct options *options)
{
    int result = 0;

    for (int slot = 0; slot < CLIENT_SLOTS; slot++) {
        if (clients[slot])
            close_client(slot);
    }
    close(listener);
    if (options->dump_path)
        result = table_dump(options->dump_path);
    if (options->copy_path && table_dump(options->copy_path) != 0)
        result = -1;
    table_free();
    log_line(result == 0 ? "stop" : "stop without a dump");
    log_close();
    return result;
}
