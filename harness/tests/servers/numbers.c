/* Proves: a process in a namespace of process numbers is known by one number inside and
 * by another one outside. Each connection is served in a namespace of its own; what
 * its processes know of each other, and what signals they can send, they say, and
 * the listener notes which of its children have ended, and how. */
#include "line_server.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static int notes;
static volatile sig_atomic_t from;

static void note_sender(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    from = info->si_pid;
}

static void greet(int fd) { say(fd, VERSION_TEXT("old", "new")); }

/* What another process of the same namespace sees. */
static void child(int fd, int pipe, int told)
{
    char byte;

    /* Its parent is gone by then. */
    if (read(pipe, &byte, 1) != 1)
        abort();
    say_number(fd, "child", getpid());
    say_number(fd, "child's parent", getppid());
    say_number(fd, "can kill it", kill(1, SIGKILL));
    say_number(fd, "can ask for 2", kill(2, 0));
    kill(getppid(), SIGUSR1);
    if (write(told, &byte, 1) != 1 || read(pipe, &byte, 1) != 0)
        abort();
    say_number(fd, "its parent then", getppid());
    _exit(3);
}

static void family(int fd)
{
    struct sigaction action;
    int pipes[2], told[2], status, pid;
    char byte;

    memset(&action, 0, sizeof action);
    action.sa_sigaction = note_sender;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &action, NULL);
    say_number(fd, "first", getpid());
    say_number(fd, "its parent", getppid());
    say_number(fd, "group", getpgrp());
    kill(getpid(), SIGTERM);
    if (pipe(pipes) != 0 || pipe(told) != 0)
        abort();
    pid = fork();
    if (pid == 0) {
        /* It is left to the first one. */
        if (fork() == 0) {
            close(pipes[1]);
            child(fd, pipes[0], told[1]);
        }
        _exit(setsid() == getpid() ? 4 : 5);
    }
    say_number(fd, "forked", pid);
    say_number(fd, "ended", waitpid(pid, &status, 0));
    say_number(fd, "status", WEXITSTATUS(status));
    if (write(pipes[1], "", 1) != 1)
        abort();
    while (read(told[0], &byte, 1) != 1)
        ;
    say_number(fd, "signal from", from);
    close(pipes[1]);
    say_number(fd, "left to it", wait(&status));
    say_number(fd, "status", WEXITSTATUS(status));
}

static void serve(int fd)
{
    char line[80];

    signal(SIGCHLD, SIG_DFL);
    while (next_line(fd, line, sizeof line)) {
        greet(fd);
        if (is(line, "family"))
            family(fd);
        /* What it leaves behind goes with it. */
        if (is(line, "leave") && fork() == 0)
            pause();
        say(fd, "ok");
    }
    _exit(7);
}

static void ended(int number)
{
    int status, pid;

    (void)number;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        say_number(notes, pid > 2 ? "ended" : "?", WEXITSTATUS(status));
}

int main(void)
{
    int listener = listen_on(7000);

    notes = open("notes", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    signal(SIGCHLD, ended);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0)
            continue;
        if (syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL) == 0)
            serve(fd);
        close(fd);
    }
}
