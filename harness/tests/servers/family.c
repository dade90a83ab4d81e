/* Proves: processes that fork, talk, pass descriptors, wait for each other and die
 * show the same in a simulated world as on real sockets. For each connection the
 * listener forks a keeper; that forks a worker, which serves the client and asks the
 * keeper over a pair of sockets. */
#include "line_server.h"
#include <sys/prctl.h>
#include <sys/stat.h>

static void on_child(int signal) { (void)signal; }

static void on_alarm(int signal) { (void)signal; }

static int asked;

/* What the keeper does for the worker: counts, opens a port, hands it over. */
static int pass_port(int pair)
{
    int listener = listen_on(7001);
    char byte = 'p';
    struct iovec part = { &byte, 1 };
    char room[CMSG_SPACE(sizeof listener)];
    struct msghdr message;
    struct cmsghdr *head;

    memset(&message, 0, sizeof message);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = room;
    message.msg_controllen = sizeof room;
    head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof listener);
    memcpy(CMSG_DATA(head), &listener, sizeof listener);
    if (sendmsg(pair, &message, 0) != 1)
        return 1;
    return close(listener);
}

static int take_port(int pair)
{
    int listener = -1;
    char byte;
    struct iovec part = { &byte, 1 };
    char room[CMSG_SPACE(sizeof listener)];
    struct msghdr message;

    memset(&message, 0, sizeof message);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = room;
    message.msg_controllen = sizeof room;
    if (recvmsg(pair, &message, 0) == 1 && CMSG_FIRSTHDR(&message) != NULL)
        memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof listener);
    return listener;
}

static void answer(int pair, const char *question)
{
    char text[80];

    asked++;
    if (is(question, "port")) {
        pass_port(pair);
        return;
    }
    snprintf(text, sizeof text, "%s %d", VERSION_TEXT("asked", "asked (new)"), asked);
    say(pair, text);
}

static int keep(int fd, int pair, int child)
{
    char line[80];
    int status = 0;

    while (next_line(pair, line, sizeof line))
        answer(pair, line);
    if (waitpid(child, &status, 0) != child)
        return 1;
    if (WIFSIGNALED(status))
        say_number(fd, "worker died of", WTERMSIG(status));
    else
        say_number(fd, "worker left with", WEXITSTATUS(status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 20;
}

static void data(int fd, int pair)
{
    int listener;
    int connection;
    char line[80];

    say(pair, "port");
    listener = take_port(pair);
    say(fd, "ready");
    connection = accept(listener, NULL, NULL);
    while (next_line(connection, line, sizeof line))
        say(fd, line);
    close(connection);
    close(listener);
}

static void files(int fd)
{
    struct stat seen;

    umask(027);
    say_number(fd, "mkdir", mkdir("made", 0777));
    say_number(fd, "again", mkdir("made", 0777) == 0 ? 0 : errno);
    close(open("made/one", O_CREAT | O_WRONLY, 0666));
    say_number(fd, "mode", stat("made/one", &seen) == 0 ? (int)(seen.st_mode & 0777) : -1);
    say_number(fd, "full", rmdir("made") == 0 ? 0 : errno);
    unlink("made/one");
    say_number(fd, "empty", rmdir("made") == 0 ? 0 : errno);
}

static int serve(int fd, int pair, const char *line)
{
    char reply[80];

    if (is(line, "ask")) {
        say(pair, "count");
        if (next_line(pair, reply, sizeof reply))
            say(fd, reply);
    } else if (is(line, "who")) {
        say_number(fd, "I am", getpid());
        say_number(fd, "my parent is", getppid());
    } else if (is(line, "data"))
        data(fd, pair);
    else if (is(line, "files"))
        files(fd);
    else if (is(line, "sleep")) {
        alarm(1);
        pause();
        say(fd, "rang");
    } else if (is(line, "leave"))
        return 3;
    else if (is(line, "crash"))
        abort();
    else
        say(fd, VERSION_TEXT("what?", "pardon?"));
    return -1;
}

static int work(int fd, int pair)
{
    char line[80];
    int done = -1;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGALRM, on_alarm);
    while (done < 0 && next_line(fd, line, sizeof line))
        done = serve(fd, pair, line);
    return done < 0 ? 0 : done;
}

static int family(int fd)
{
    int pair[2];
    int child;

    /* A handler would run now before the pair is seen to be closed, now after. */
    signal(SIGCHLD, SIG_DFL);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return 2;
    child = fork();
    if (child == 0) {
        close(pair[0]);
        return work(fd, pair[1]);
    }
    close(pair[1]);
    return keep(fd, pair[0], child);
}

int main(void)
{
    struct sigaction action;
    int listener = listen_on(7000);

    memset(&action, 0, sizeof action);
    action.sa_handler = on_child;
    sigaction(SIGCHLD, &action, NULL);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0) {
            while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
            continue;
        }
        if (fork() == 0) {
            close(listener);
            _exit(family(fd));
        }
        close(fd);
    }
}
