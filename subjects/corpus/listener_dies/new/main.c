/* Shows: a failure behind a right transcript, in a process that no client talks to. The
 * listener notes which sessions have ended, in slots that only the new start-up points to,
 * and dies of it when the last client is gone. */
#include "line_server.h"

static int slots[4];
static int *ended;
static unsigned count_ended;

static void prepare(void)
{
    ended = slots;
}

static void greet(int fd) { say(fd, "hello"); }

static void retire(pid_t session)
{
    ended[count_ended++ % 4] = session;
}

static void begin(int fd)
{
    pid_t session = fork();

    if (session == 0) {
        char line[LONGEST_LINE];

        while (next_line(fd, line, sizeof line))
            greet(fd);
        _exit(0);
    }
    close(fd);
    waitpid(session, NULL, 0);
    retire(session);
}

int main(int count, char **arguments)
{
    int listener;

    (void)count;
    prepare();
    listener = listen_on(atoi(arguments[1]));
    for (;;)
        begin(next_client(listener));
}
