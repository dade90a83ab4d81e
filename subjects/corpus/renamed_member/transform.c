/* `column` is `y` under another name. */
#include "kairos_transform.h"

static void keep(struct kairos_old_place *old, struct kairos_new_place *new)
{
    new->column = old->y;
}

void kairos_transform(void) { kairos_each_place(keep); }
