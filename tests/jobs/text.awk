# The text that tests train on: sentences of a small grammar, drawn by a fixed sequence. awk -v bytes=N -f text.awk
function draw(n)
{
    x = x * 16807 % 2147483647
    return 1 + int(x / 2147483647 * n)
}
function word(list, n, of)
{
    n = split(list, of, " ")
    return of[draw(n)]
}
function noun()
{
    return word("rank stage bucket stream microbatch layer gradient checkpoint step kernel buffer norm token expert plan")
}
function thing()
{
    return (draw(3) == 1 ? "" : word("first last small late early wide whole other next idle busy") " ") noun()
}
function sentence()
{
    return "the " thing() " " word("waits for sends holds reads writes follows leaves needs meets counts moves") " " \
        word("the a its this each") " " thing() \
        (draw(2) == 1 ? "" : " " word("before after while until since") " the " noun() " " word("ends begins fills moves stops")) \
        word(". . . ; ,") " "
}
BEGIN {
    x = 20261129
    while (n < bytes) {
        s = sentence() (draw(6) == 1 ? draw(900) + 99 ".\n" : "")
        s = substr(s, 1, bytes - n)
        printf "%s", s
        n += length(s)
    }
}
