/* Proves: whatever a server does to its machine, Kairos judges it, ends, and leaves
 * nothing behind. The new version misbehaves where its start-up did not run, hence in
 * update tests only, by KIND; AT_START kinds misbehave in both versions at once. */
#include "line_server.h"

enum kind {
    FORKS, STOPS, IGNORES_TERM, TALKS, CLOSES, DAEMON, KILLS, TAKES_PORTS, FILLS_DISK, EXECUTES,
    CRASHES_AT_START, EXITS_AT_START, NEVER_READY,
};

static int prepared;

static void misbehave(void)
{
    static char block[1 << 16];
    char name[20];

    switch (KIND) {
    case FORKS:
        for (;;)
            fork();
    case STOPS:
        raise(SIGSTOP);
        break;
    case IGNORES_TERM:
        signal(SIGTERM, SIG_IGN);
        break;
    case TALKS:
        for (;;)
            write(1, block, sizeof block);
    case CLOSES:
        for (int fd = 0; fd < 1024; fd++)
            close(fd);
        break;
    case DAEMON:
        if (fork() == 0) {
            setsid();
            signal(SIGTERM, SIG_IGN);
            signal(SIGHUP, SIG_IGN);
            if (fork() != 0)
                _exit(0);
            for (;;)
                pause();
        }
        wait(NULL);
        break;
    case KILLS:
        kill(-1, SIGKILL);
        kill(0, SIGKILL);
        break;
    case TAKES_PORTS:
        for (int port = 1024; port < 65536; port++) {
            struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
            int fd = socket(AF_INET, SOCK_STREAM, 0);

            if (fd < 0)
                break;
            bind(fd, (struct sockaddr *)&address, sizeof address);
        }
        break;
    case FILLS_DISK:
        signal(SIGXFSZ, SIG_IGN);
        for (int number = 0; number < 3; number++) {
            int fd;

            snprintf(name, sizeof name, "big%d", number);
            fd = open(name, O_WRONLY | O_CREAT, 0600);
            while (write(fd, block, sizeof block) > 0)
                ;
            close(fd);
        }
        break;
    case EXECUTES:
        execl("/bin/sleep", "sleep", "1000", NULL);
        break;
    case CRASHES_AT_START:
        abort();
    case EXITS_AT_START:
        say(2, "no configuration");
        exit(7);
    case NEVER_READY:
        say(2, "waiting for nothing");
        for (;;)
            pause();
    }
}

static void start(void)
{
    if (KIND >= CRASHES_AT_START)
        misbehave();
    prepared = VERSION_TEXT(0, 1);
}

static void answer(int fd)
{
#ifdef NEW
    if (!prepared)
        misbehave();
#endif
    say(fd, "done");
}

int main(void)
{
    int listener;
    char line[80];

    start();
    listener = listen_on(7000);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0)
            return 8;
        while (next_line(fd, line, sizeof line))
            answer(fd);
        close(fd);
    }
}
