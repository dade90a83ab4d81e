/* What the tiny servers of the end-to-end tests share. Helpers are always inlined,
 * so that they are no functions of the program and add no update points: every
 * point of a tiny server lies in a function that its own file spells out. */
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

/* A text that the versions word differently. */
#ifdef NEW
#define VERSION_TEXT(old, new) new
#else
#define VERSION_TEXT(old, new) old
#endif

HELPER int listen_on(int port)
{
    struct sockaddr_in address;
    int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0
        || bind(listener, (struct sockaddr *)&address, sizeof address) != 0
        || listen(listener, 16) != 0)
        exit(9);
    return listener;
}

/* Reads up to the end of the line, which is cut off. 0: the client has closed. */
HELPER int next_line(int fd, char *line, size_t size)
{
    size_t length = 0;

    while (length + 1 < size && read(fd, line + length, 1) == 1) {
        if (line[length] == '\n') {
            line[length] = 0;
            return 1;
        }
        length++;
    }
    return 0;
}

HELPER void say(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) < 0 || write(fd, "\n", 1) < 0)
        return;
}

HELPER void say_number(int fd, const char *label, int number)
{
    char text[80];

    snprintf(text, sizeof text, "%s %d", label, number);
    say(fd, text);
}

HELPER int is(const char *line, const char *word)
{
    return strcmp(line, word) == 0;
}
