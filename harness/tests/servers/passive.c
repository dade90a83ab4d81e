/* Proves: a recorded session follows a data connection whose port a reply names. One
 * process serves any number of clients; `PASV` opens a port, `LIST` and `STOR` use
 * it, `LATER` names it in the extended form, `TOKEN` gives a number that `SAY` must
 * repeat, `CRASH` ends the server. The port differs in each version, so that a script which wrote it down
 * would fail on the other. */
#include "line_server.h"
#include <poll.h>

#define MOST 16
static struct pollfd clients[MOST];
static int count, listener, passive = -1, token;

static int port(void) { return VERSION_TEXT(7400, 7655) + 1; }

static void name_port(int fd, const char *line)
{
    char text[80];

    if (passive < 0)
        passive = listen_on(port());
    if (is(line, "PASV"))
        snprintf(text, sizeof text, "227 Here (127,0,0,1,%d,%d).", port() / 256, port() % 256);
    else
        snprintf(text, sizeof text, "229 Here (|||%d|)", port());
    say(fd, text);
}

static int data(void)
{
    int fd = accept(passive, NULL, NULL);

    close(passive);
    passive = -1;
    return fd;
}

static void list(int fd)
{
    int to, number;

    say(fd, "150 Listing");
    to = data();
    for (number = 0; number < 2000; number++)
        say_number(to, "file", number);
    close(to);
    say(fd, "226 Listed");
}

static void store(int fd)
{
    char bytes[512];
    int from, length, sum = 0;

    say(fd, "150 Storing");
    from = data();
    while ((length = (int)read(from, bytes, sizeof bytes)) > 0)
        sum += length;
    close(from);
    say_number(fd, "226 Stored", sum);
}

static int answer(int fd, const char *line)
{
    char expected[80];

    snprintf(expected, sizeof expected, "SAY %d", token);
    if (is(line, "QUIT")) {
        say(fd, "221 Bye");
        return 0;
    }
    if (is(line, "PASV") || is(line, "LATER"))
        name_port(fd, line);
    else if (is(line, "LIST"))
        list(fd);
    else if (is(line, "STOR"))
        store(fd);
    else if (is(line, "TOKEN")) {
        token = VERSION_TEXT(123456, 654321);
        say_number(fd, "200-the token is", token);
        say(fd, "200 End");
    } else if (is(line, "CRASH"))
        abort();
    else
        say(fd, token && is(line, expected) ? "200 Right" : "500 What?");
    return 1;
}

static void all_hear(const char *what)
{
    int index;

    for (index = 1; index < count; index++)
        say(clients[index].fd, what);
}

static void serve(int index)
{
    char line[80];
    int fd = clients[index].fd;

    if (next_line(fd, line, sizeof line) && answer(fd, line))
        return;
    close(fd);
    clients[index] = clients[--count];
    all_hear("100 Somebody left");
}

int main(void)
{
    int index;

    signal(SIGPIPE, SIG_IGN);
    listener = listen_on(7000);
    clients[0].fd = listener;
    count = 1;
    for (;;) {
        for (index = 0; index < count; index++)
            clients[index].events = POLLIN;
        poll(clients, (nfds_t)count, -1);
        if (clients[0].revents && count < MOST) {
            clients[count].revents = 0;
            clients[count].fd = accept(listener, NULL, NULL);
            say(clients[count++].fd, "220 Hello");
            continue;
        }
        for (index = 1; index < count; index++)
            if (clients[index].revents) {
                serve(index);
                break;
            }
    }
}
