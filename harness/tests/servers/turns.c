/* Proves: who acts when is no matter of chance. What the client does, a server that is
 * still at work does not see yet, even where the tracer stops it (`serve` is an old frame
 * that goes on); and the handler of the ordinary stop is told that process 1 asked. */
#include "line_server.h"

static const char *folder;
static volatile sig_atomic_t asked_by;

static void note(const char *what, int number)
{
    char path[200];
    int fd;

    snprintf(path, sizeof path, "%s/notes", folder);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    say_number(fd, what, number);
    close(fd);
}

static void stop(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    asked_by = info->si_pid;
}

static void finish(int fd)
{
    say(fd, "bye");
    shutdown(fd, SHUT_WR);
}

static void serve(int fd)
{
    char line[80];
    int early;

    while (next_line(fd, line, sizeof line)) {
        finish(fd);
        early = recv(fd, line, sizeof line, MSG_DONTWAIT) == 0;
        note(VERSION_TEXT("early", "seen early"), early);
    }
}

int main(int count, char **arguments)
{
    struct sigaction action;
    int listener = listen_on(7000), fd;

    folder = arguments[count - 1];
    memset(&action, 0, sizeof action);
    action.sa_sigaction = stop;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGTERM, &action, NULL);
    while (!asked_by) {
        fd = accept(listener, NULL, NULL);
        if (fd >= 0) {
            serve(fd);
            close(fd);
        }
    }
    note("asked by", asked_by);
    return 0;
}
