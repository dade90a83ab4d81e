/* Proves: the threads beside the one at the update point are stopped and go on as if
 * they had not been: one waits in epoll_wait, one in accept, and neither may see
 * EINTR. The main thread's commands show what they saw. */
#include "line_server.h"

#include <pthread.h>
#include <sys/epoll.h>

static volatile int interrupted;

static void answer(int fd) { say_number(fd, VERSION_TEXT("old", "new"), interrupted); }

static void answer_all(int fd)
{
    char line[80];

    while (next_line(fd, line, sizeof line))
        answer(fd);
    close(fd);
}

static void *wait_for_events(void *nothing)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = { .events = EPOLLIN };

    (void)nothing;
    epoll_ctl(set, EPOLL_CTL_ADD, listen_on(7002), &event);
    for (;;) {
        if (epoll_wait(set, &event, 1, -1) < 0 && errno == EINTR)
            interrupted++;
    }
}

static void *wait_for_clients(void *listener)
{
    for (;;) {
        int fd = accept(*(int *)listener, NULL, NULL);

        if (fd < 0 && errno == EINTR)
            interrupted++;
        else
            answer_all(fd);
    }
}

int main(void)
{
    int other = listen_on(7001), listener;
    pthread_t thread;

    pthread_create(&thread, NULL, wait_for_events, NULL);
    pthread_create(&thread, NULL, wait_for_clients, &other);
    listener = listen_on(7000);
    for (;;)
        answer_all(accept(listener, NULL, NULL));
}
