/* Proves: a point is found again behind a loop that has another number of turns. The
 * server notes how fast it was, digit by digit, where no client sees it; while its
 * entries are traced it is slow. */
#include "line_server.h"

#include <sys/time.h>

static int notes;

static long microseconds(void)
{
    struct timeval now;

    gettimeofday(&now, NULL);
    return now.tv_sec * 1000000L + now.tv_usec;
}

static void work(void) {}

static void note_digit(long digit)
{
    char text = (char)('0' + digit);

    if (write(notes, &text, 1) != 1)
        abort();
}

static void note_speed(long took)
{
    for (long speed = 1000000000L / (took + 1); speed > 0; speed /= 10)
        note_digit(speed % 10);
}

static void answer(int fd)
{
    long begun = microseconds();

    for (int count = 0; count < 100; count++)
        work();
    note_speed(microseconds() - begun);
    say(fd, VERSION_TEXT("old", "new"));
}

static void finish(int fd) { close(fd); }

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

    notes = open("/dev/null", O_WRONLY | O_CLOEXEC);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            answer(fd);
        finish(fd);
    }
}
