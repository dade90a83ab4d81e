/* What the servers of the corpus share: lines in, lines out, one request a line.
 * Helpers are always inlined, so that they are no functions of the program and add
 * no update points: every point of a case lies in a function that its own file
 * spells out. Both versions are built with this file. */
#ifndef LINE_SERVER_H
#define LINE_SERVER_H
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define HELPER static inline __attribute__((always_inline, unused))

enum { LONGEST_LINE = 80 };

/* A listening socket on the loopback; it is closed on exec. */
HELPER int listen_on(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((unsigned short)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0
        || bind(listener, (struct sockaddr *)&address, sizeof address) != 0
        || listen(listener, 16) != 0)
        exit(9);
    return listener;
}

/* The next client's connection. */
HELPER int next_client(int listener)
{
    int fd;

    do
        fd = accept(listener, NULL, NULL);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        exit(8);
    return fd;
}

/* Reads a line and cuts its end off. 0: the client has closed. */
HELPER int next_line(int fd, char *line, size_t size)
{
    size_t length = 0;

    while (length + 1 < size) {
        ssize_t got = read(fd, line + length, 1);

        if (got < 0 && errno == EINTR)
            continue;
        if (got != 1)
            return 0;
        if (line[length] == '\n') {
            line[length] = 0;
            return 1;
        }
        length++;
    }
    return 0;
}

/* Sends a line in one write. */
HELPER void say(int fd, const char *text)
{
    char line[160];
    int length = snprintf(line, sizeof line, "%s\n", text);

    if (write(fd, line, (size_t)length) != length)
        exit(7);
}

/* Sends "LABEL NUMBER". */
HELPER void say_number(int fd, const char *label, long number)
{
    char text[120];

    snprintf(text, sizeof text, "%s %ld", label, number);
    say(fd, text);
}

/* Sends "LABEL TEXT". */
HELPER void say_text(int fd, const char *label, const char *value)
{
    char text[120];

    snprintf(text, sizeof text, "%s %s", label, value);
    say(fd, text);
}

/* Whether the line is exactly this word. */
HELPER int is(const char *line, const char *word) { return strcmp(line, word) == 0; }

/* What follows "WORD " in the line, or NULL if it begins otherwise. */
HELPER char *argument(char *line, const char *word)
{
    size_t length = strlen(word);

    return strncmp(line, word, length) == 0 && line[length] == ' ' ? line + length + 1 : NULL;
}

/* Appends a line to a file of the run folder, which is the working folder. */
HELPER void log_line(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    if (fd < 0)
        exit(6);
    say(fd, text);
    close(fd);
}

/* Keeps a function that does nothing from being known to do nothing. */
HELPER void do_nothing(void) { __asm__ volatile("" ::: "memory"); }
#endif
