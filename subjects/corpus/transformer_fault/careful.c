/* Converts the note if there is one. */
extern char *note;

void kairos_transform(void);

void kairos_transform(void)
{
    if (note)
        note[0] -= 'a' - 'A';
}
