/* The members change places. */
extern int *counter;

void kairos_transform(void)
{
    int hits = counter[0];

    counter[0] = counter[1];
    counter[1] = hits;
}
