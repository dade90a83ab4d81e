#include "kairos_transform.h"

static void compute(struct kairos_old_limits *old, struct kairos_new_limits *new)
{
    new->words = 10 * old->lines;
}

/* Does for every instance what start-up would have done. */
void kairos_transform(void) { kairos_each_limits(compute); }
