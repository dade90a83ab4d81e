/* Moves the counter to a block of the new size. */
#include <stdlib.h>

extern long *counter;

void kairos_transform(void);

void kairos_transform(void)
{
    long *moved = calloc(2, sizeof *moved);

    moved[0] = counter[0];
    counter = moved;
}
