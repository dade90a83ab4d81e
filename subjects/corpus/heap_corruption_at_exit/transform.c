/* Moves the note to a block of the new size; the old one is given up. */
#include <stdlib.h>
#include <string.h>

extern char *note;

void kairos_transform(void);

void kairos_transform(void)
{
    char *moved = calloc(1, 32);

    memcpy(moved, note, 24);
    note = moved;
}
