/* SHUT was 2 and is 3. */
extern int door;

void kairos_transform(void);

void kairos_transform(void)
{
    if (door == 2)
        door = 3;
}
