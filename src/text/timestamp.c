/* timestamp.c - points in time as ISO 8601 text.
 *
 * The proleptic Gregorian calendar, counted in days from 1970-01-01.  The year is taken
 * to start in March, so the leap day is its last day and the length of the months
 * before a date is a linear formula: (153 * month + 2) / 5 with March as month 0.  An
 * era is 400 years, 146,097 days, after which the calendar repeats. */
#include "text/timestamp.h"

#include <stddef.h>

#define US_PER_S INT64_C(1000000)
#define S_PER_DAY INT64_C(86400)
#define US_PER_DAY (S_PER_DAY * US_PER_S)

enum {
    DAYS_PER_ERA = 146097,
    DAYS_PER_CENTURY = 36524,
    DAYS_PER_4_YEARS = 1461,
    DAYS_PER_YEAR = 365,
    EPOCH_DAY = 719468, /* days from 0000-03-01 to 1970-01-01 */
    YEAR_MAX = 9999
};

static int64_t days_from_date(int64_t year, int64_t month, int64_t day) {
    int64_t march_year = month > 2 ? year : year - 1;
    int64_t march_month = month > 2 ? month - 3 : month + 9;
    int64_t era = (march_year >= 0 ? march_year : march_year - 399) / 400;
    int64_t year_of_era = march_year - era * 400;
    int64_t day_of_year = (153 * march_month + 2) / 5 + day - 1;
    int64_t day_of_era =
        year_of_era * DAYS_PER_YEAR + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * DAYS_PER_ERA + day_of_era - EPOCH_DAY;
}

static void date_from_days(int64_t days, int64_t *year, int64_t *month, int64_t *day) {
    int64_t shifted = days + EPOCH_DAY;
    int64_t era = (shifted >= 0 ? shifted : shifted - DAYS_PER_ERA + 1) / DAYS_PER_ERA;
    int64_t day_of_era = shifted - era * DAYS_PER_ERA;
    int64_t year_of_era =
        (day_of_era - day_of_era / (DAYS_PER_4_YEARS - 1) +
         day_of_era / DAYS_PER_CENTURY - day_of_era / (DAYS_PER_ERA - 1)) /
        DAYS_PER_YEAR;
    int64_t day_of_year = day_of_era - (DAYS_PER_YEAR * year_of_era + year_of_era / 4 -
                                        year_of_era / 100);
    int64_t march_month = (5 * day_of_year + 2) / 153;
    *day = day_of_year - (153 * march_month + 2) / 5 + 1;
    *month = march_month < 10 ? march_month + 3 : march_month - 9;
    *year = year_of_era + era * 400 + (*month <= 2);
}

static int64_t us_first(void) {
    return days_from_date(0, 1, 1) * US_PER_DAY;
}

static int64_t us_last(void) {
    return days_from_date(YEAR_MAX + 1, 1, 1) * US_PER_DAY - 1;
}

static char *put_digits(char *out, int64_t value, int width) {
    for (int i = width - 1; i >= 0; i--) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return out + width;
}

void mf_timestamp_format(int64_t us, char out[MF_TIMESTAMP_TEXT + 1]) {
    us = us < us_first() ? us_first() : us > us_last() ? us_last() : us;
    int64_t days = us / US_PER_DAY - (us % US_PER_DAY < 0);
    int64_t rest = us - days * US_PER_DAY;
    int64_t year = 0;
    int64_t month = 0;
    int64_t day = 0;
    date_from_days(days, &year, &month, &day);
    int64_t seconds = rest / US_PER_S;
    char *p = put_digits(out, year, 4);
    *p++ = '-';
    p = put_digits(p, month, 2);
    *p++ = '-';
    p = put_digits(p, day, 2);
    *p++ = 'T';
    p = put_digits(p, seconds / 3600, 2);
    *p++ = ':';
    p = put_digits(p, seconds / 60 % 60, 2);
    *p++ = ':';
    p = put_digits(p, seconds % 60, 2);
    *p++ = '.';
    p = put_digits(p, rest % US_PER_S, 6);
    *p++ = 'Z';
    *p = '\0';
}

typedef struct cursor {
    const char *p;
    size_t left;
} cursor;

static bool take_char(cursor *c, char wanted) {
    if (c->left == 0 || *c->p != wanted) {
        return false;
    }
    c->p++;
    c->left--;
    return true;
}

static bool is_digit(const cursor *c) {
    return c->left > 0 && *c->p >= '0' && *c->p <= '9';
}

static bool take_digits(cursor *c, int width, int64_t *out) {
    int64_t value = 0;
    for (int i = 0; i < width; i++) {
        if (!is_digit(c)) {
            return false;
        }
        value = value * 10 + (*c->p - '0');
        c->p++;
        c->left--;
    }
    *out = value;
    return true;
}

static bool take_date(cursor *c, int64_t *days) {
    static const uint8_t month_days[] = {31, 28, 31, 30, 31, 30,
                                         31, 31, 30, 31, 30, 31};
    int64_t year = 0;
    int64_t month = 0;
    int64_t day = 0;
    if (!take_digits(c, 4, &year) || !take_char(c, '-') || !take_digits(c, 2, &month) ||
        !take_char(c, '-') || !take_digits(c, 2, &day) || month < 1 || month > 12) {
        return false;
    }
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    int64_t day_max = month_days[month - 1] + (month == 2 && leap);
    if (day < 1 || day > day_max) {
        return false;
    }
    *days = days_from_date(year, month, day);
    return true;
}

/* ".5" to ".123456789"; digits behind the sixth are read and dropped. */
static bool take_fraction(cursor *c, int64_t *us) {
    int digits = 0;
    int64_t value = 0;
    for (; is_digit(c); digits++) {
        if (digits < 6) {
            value = value * 10 + (*c->p - '0');
        }
        c->p++;
        c->left--;
    }
    for (int i = digits; i < 6; i++) {
        value *= 10;
    }
    *us = value;
    return digits >= 1 && digits <= 9;
}

static bool take_time(cursor *c, int64_t *us) {
    int64_t hour = 0;
    int64_t minute = 0;
    int64_t second = 0;
    int64_t fraction = 0;
    if (!take_digits(c, 2, &hour) || !take_char(c, ':') ||
        !take_digits(c, 2, &minute)) {
        return false;
    }
    if (take_char(c, ':')) {
        if (!take_digits(c, 2, &second)) {
            return false;
        }
        if (take_char(c, '.') && !take_fraction(c, &fraction)) {
            return false;
        }
    }
    if (hour > 23 || minute > 59 || second > 59) {
        return false;
    }
    *us = (hour * 3600 + minute * 60 + second) * US_PER_S + fraction;
    return true;
}

/* What has to be added to a local time to get UTC. */
static bool take_zone(cursor *c, int64_t *us) {
    *us = 0;
    if (c->left == 0 || take_char(c, 'Z')) {
        return true;
    }
    bool ahead = take_char(c, '+');
    if (!ahead && !take_char(c, '-')) {
        return false;
    }
    int64_t hours = 0;
    int64_t minutes = 0;
    if (!take_digits(c, 2, &hours)) {
        return false;
    }
    (void)take_char(c, ':'); /* +hhmm is as good as +hh:mm */
    if (!take_digits(c, 2, &minutes) || hours > 23 || minutes > 59) {
        return false;
    }
    int64_t offset = (hours * 3600 + minutes * 60) * US_PER_S;
    *us = ahead ? -offset : offset;
    return true;
}

bool mf_timestamp_parse(mf_str text, int64_t *us) {
    cursor c = {text.p, text.len};
    int64_t days = 0;
    int64_t time_us = 0;
    int64_t zone_us = 0;
    if (!take_date(&c, &days)) {
        return false;
    }
    if (c.left > 0 && ((!take_char(&c, 'T') && !take_char(&c, ' ')) ||
                       !take_time(&c, &time_us) || !take_zone(&c, &zone_us))) {
        return false;
    }
    int64_t total = days * US_PER_DAY + time_us + zone_us;
    if (c.left > 0 || total < us_first() || total > us_last()) {
        return false;
    }
    *us = total;
    return true;
}
