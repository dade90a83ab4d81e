/* Proves: a copy of a started server has what a fresh one has, and shares none of it
 * with other copies: its number, listening socket, epoll set, a pipe that its signal
 * handler writes to, a counter of events, a running timer, a file that it writes at a
 * position of its own, and a file that it removes when it stops. Each reply tells. */
#include "line_server.h"

#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/time.h>

static int listener, set, ends[2], counter, log_file, started_as, signals;
static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
    if (number == SIGTERM || write(ends[1], "x", 1) != 1)
        stopping = 1;
}

static int noted(void)
{
    char text[16] = "";
    int file = open("server.pid", O_RDONLY);

    if (file < 0 || read(file, text, sizeof text - 1) < 1)
        return -1;
    close(file);
    return atoi(text);
}

static void tell(int fd)
{
    struct itimerval timer;
    uint64_t events = 0;
    char text[200];
    int own = getpid() == started_as && getsid(0) == started_as && noted() == started_as;

    if (read(counter, &events, sizeof events) < 0)
        events = 0;
    events++;
    if (write(counter, &events, sizeof events) < 0 || write(log_file, "told\n", 5) < 0)
        own = 0;
    getitimer(ITIMER_REAL, &timer);
    snprintf(text, sizeof text, "%s: numbers %s, timer %s, events %d, signals %d, log at %ld",
             VERSION_TEXT("old", "new"), own ? "its own" : "another's",
             timer.it_value.tv_sec > 0 ? "runs" : "stands", (int)events, signals,
             (long)lseek(log_file, 0, SEEK_CUR));
    say(fd, text);
}

static void watch(int fd)
{
    struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0)
        exit(8);
}

static void serve(int fd)
{
    char line[80];

    if (!next_line(fd, line, sizeof line)) {
        close(fd);
        return;
    }
    if (is(line, "shut"))
        close(listener);
    tell(fd);
}

static void turn(int fd)
{
    char byte;

    if (fd == listener) {
        watch(accept(listener, NULL, NULL));
    } else if (fd == ends[0]) {
        while (read(ends[0], &byte, 1) == 1)
            signals++;
    } else {
        serve(fd);
    }
}

static void start(void)
{
    struct itimerval timer = { .it_value.tv_sec = 1000 };
    struct sigaction action = { .sa_handler = on_signal };
    char text[16];
    int file = open("server.pid", O_WRONLY | O_CREAT | O_TRUNC, 0644);

    started_as = getpid();
    snprintf(text, sizeof text, "%d\n", started_as);
    log_file = open("server.log", O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (write(file, text, strlen(text)) < 0 || write(log_file, "started\n", 8) < 0)
        exit(7);
    close(file);
    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0)
        exit(6);
    counter = eventfd(3, EFD_NONBLOCK);
    setitimer(ITIMER_REAL, &timer, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    listener = listen_on(7000);
    set = epoll_create1(EPOLL_CLOEXEC);
    watch(listener);
    watch(ends[0]);
}

int main(void)
{
    struct epoll_event event;

    start();
    while (!stopping)
        if (epoll_wait(set, &event, 1, -1) == 1)
            turn(event.data.fd);
    unlink("server.pid");
    return 3;
}
