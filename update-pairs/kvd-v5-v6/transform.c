#include "kairos_transform.h"

void make_greeting(void);

/* The start-up computation again, now by the new function. */
void kairos_transform(void)
{
    make_greeting();
}
