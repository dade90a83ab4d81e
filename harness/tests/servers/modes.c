/* Proves: the mode of a file that was there before the session can be changed, stays
 * changed once nobody has the file open, and leaves its content and its time alone. */
#include "line_server.h"

#include <sys/stat.h>

static time_t written;

static void tell(int fd)
{
    struct stat file;

    if (stat("kept", &file) != 0)
        abort();
    say_number(fd, "mode", file.st_mode);
    say_number(fd, "size", (int)file.st_size);
    say_number(fd, "written again", file.st_mtime != written);
}

static void change(int fd)
{
    if (chmod("kept", VERSION_TEXT(0600, 0640)) != 0)
        abort();
    tell(fd);
}

static void change_open(int fd)
{
    int file = open("kept", O_RDONLY);

    if (file < 0 || fchmod(file, VERSION_TEXT(0604, 0644)) != 0)
        abort();
    close(file);
    tell(fd);
}

static void command(int fd, const char *line)
{
    if (is(line, "change"))
        change(fd);
    else if (is(line, "change open"))
        change_open(fd);
    else
        tell(fd);
    say(fd, "ok");
}

int main(void)
{
    int listener, kept = open("kept", O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    struct stat file;
    char line[80];

    if (kept < 0 || write(kept, "text\n", 5) != 5 || fstat(kept, &file) != 0)
        return 9;
    close(kept);
    written = file.st_mtime;
    listener = listen_on(7000);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            command(fd, line);
        close(fd);
    }
}
