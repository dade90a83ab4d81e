/* Shows: a signal that interrupts the program's own code. `poke` sends it to its own
 * process by a system call of its own, so the handler runs between two of its
 * instructions; the old frame goes on afterwards, into the next exchange. */
#include "line_server.h"

#include <sys/syscall.h>

static volatile int signals;

static void note(void) { signals++; }

static void on_signal(int number)
{
    (void)number;
    note();
}

static void poke(int fd)
{
    char line[LONGEST_LINE];
    long answer;
    pid_t self = getpid();

    __asm__ volatile("syscall"
                     : "=a"(answer)
                     : "a"((long)SYS_kill), "D"((long)self), "S"((long)SIGUSR1)
                     : "rcx", "r11", "memory");
    say(fd, "poked");
    if (next_line(fd, line, sizeof line))
        say(fd, "more");
}

static void tell(int fd) { say_number(fd, "signals", signals); }

int main(int count, char **arguments)
{
    int listener;
    char line[LONGEST_LINE];
    struct sigaction action = { .sa_handler = on_signal };

    (void)count;
    sigaction(SIGUSR1, &action, NULL);
    listener = listen_on(atoi(arguments[1]));
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "POKE"))
                poke(fd);
            else
                tell(fd);
        }
        close(fd);
    }
}
