"""Works that scripts/demo shows.

demo-pi.py DIGITS         prints pi, digit by digit, as they come (Gibbons' spigot), and a line per 500 digits on standard error
demo-pi.py --check DIGITS prints the same, computed at once in another way (Machin's formula)

Knows nothing of being moved.
"""
import hashlib
import os
import sys
import time

STEP = 500


def spigot():
    """Gibbons, 'Unbounded Spigot Algorithms for the Digits of Pi', 2006: an endless stream from ever larger integers."""
    q, r, t, k, n, l = 1, 0, 1, 1, 3, 3
    while True:
        if 4 * q + r - t < n * t:
            yield n
            q, r, n = 10 * q, 10 * (r - n * t), 10 * (3 * q + r) // t - 10 * n
        else:
            q, r, t, k, n, l = q * k, (2 * q + r) * l, t * l, k + 1, (q * (7 * k + 2) + r * l) // (t * l), l + 2


def machin(digits):
    """pi = 16 arctan(1/5) - 4 arctan(1/239), in fixed point with ten digits to spare."""
    unit = 10 ** (digits + 10)

    def arctan_of_inverse(x):
        power = total = unit // x
        n, sign = 3, -1
        while power:
            power //= x * x
            total += sign * (power // n)
            n, sign = n + 2, -sign
        return total

    pi = 16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)
    return str(pi // 10**11)


def main():
    sys.set_int_max_str_digits(0)
    digits = int(sys.argv[-1])
    if sys.argv[1] == "--check":
        print(machin(digits))
        return
    # Known to this process alone until it ends: whoever shows it then is the one that started.
    secret = os.urandom(16)
    print(f"started at {time.strftime('%T')} on {os.uname().nodename} as process {os.getpid()}", file=sys.stderr, flush=True)
    print(f"sealed {hashlib.sha256(secret).hexdigest()}", file=sys.stderr, flush=True)
    stream = spigot()
    for done in range(STEP, digits + 1, STEP):
        print("".join(str(next(stream)) for _ in range(STEP)), end="", flush=True)
        print(f"{done} digits, now on {os.uname().nodename}", file=sys.stderr, flush=True)
    print()
    print(f"opened {secret.hex()}", file=sys.stderr, flush=True)


main()
