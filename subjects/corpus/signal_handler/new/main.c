/* Shows: a signal handler runs on top of a function that waits for it. The duty of
 * counting moves from the waiting function to what the handler calls: between the two it
 * is done twice. The stack is walked through the signal's frame. */
#include "line_server.h"

static volatile int total;

static void note(void) { total++; }

static void on_call(int number)
{
    (void)number;
    note();
}

static void wait_call(int fd)
{
    sigset_t none;

    sigemptyset(&none);
    sigsuspend(&none);
    say(fd, "called");
}

static void tell(int fd) { say_number(fd, "calls", total); }

int main(int count, char **arguments)
{
    int listener;
    char line[LONGEST_LINE];
    sigset_t calls;
    struct sigaction action = { .sa_handler = on_call };

    (void)count;
    sigemptyset(&calls);
    sigaddset(&calls, SIGUSR1);
    sigprocmask(SIG_BLOCK, &calls, NULL);
    sigaction(SIGUSR1, &action, NULL);
    listener = listen_on(atoi(arguments[1]));
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "WAIT"))
                wait_call(fd);
            else
                tell(fd);
        }
        close(fd);
    }
}
