/* Proves: points in a signal handler are points like others, their stack is walked
 * through the signal's frame, and a transformer that would call the library is not run
 * there. */
#include "line_server.h"

static volatile int mark;

int made_by_transformer;

static void set_mark(void) { mark = VERSION_TEXT(1, 2); }

static void on_signal(int number)
{
    (void)number;
    set_mark();
}

static void tell(int fd) { say_number(fd, "mark", mark); }

int main(void)
{
    int listener = listen_on(7000);
    struct sigaction action;
    char line[80];

    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, NULL);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            tell(fd);
        close(fd);
    }
}
