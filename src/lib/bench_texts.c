/* bench_texts.c - see bench_texts.h. */
#include "lib/bench_texts.h"

#include <string.h>

#include "base/assert.h"
#include "base/rng.h"

static const char *const sentences[] = {
    "I moved to Lisbon in March and still have boxes in the hall.",
    "Could you remind me to call the dentist on Thursday?",
    "My sister is allergic to walnuts, so please leave them out of the cake.",
    "The deployment failed because the database migration timed out.",
    "We decided to postpone the launch until the end of October.",
    "I prefer the window seat, but not right behind the wing.",
    "Thanks, that helped a lot!",
    "How long does it take by train from Vienna to Prague?",
    "He said the budget for next year is about 40,000 euros.",
    "Our dog Biscuit turned seven last week and finally stopped chewing shoes.",
    "Let's use Postgres for the orders and keep the cache in memory.",
    "I've been learning the cello since January.",
    "The doctor told me to take the tablets twice a day, after meals.",
    "Can we meet at 9:30 instead of 10?",
    "Her new book is about lighthouse keepers in the nineteenth century.",
    "It rained all weekend, so we stayed in and played cards.",
    "Please answer in short sentences from now on.",
    "The unit tests pass locally, yet the build server reports a segmentation fault.",
    "I never drink coffee after three in the afternoon.",
    "Where did I put the spare key for the bicycle?",
    "They are painting the kitchen a pale green this time.",
    "You were right about the insurance: it does cover water damage.",
    "My flight number is LH1764 and it lands at a quarter past six.",
    "What was the name of the restaurant with the blue door?",
    "I'd like to read more poetry this year, maybe one poem every morning.",
    "The garden needs less water than we thought.",
    "Tom starts his new job at the hospital on Monday.",
    "Ignore the second invoice, it was sent by mistake.",
    "We saw two foxes near the old mill yesterday evening.",
    "Running ten kilometres in under an hour is still my goal.",
    "The meeting notes are in the shared folder under planning.",
    "Is there a vegetarian option on the menu?",
    "I forgot my umbrella on the bus again.",
    "The customer asked for a refund because the lamp arrived broken.",
    "Grandma's recipe needs three eggs, a pinch of salt and a lot of patience.",
    "Set the temperature to nineteen degrees at night.",
    "It looks like the router drops the connection every few hours.",
    "I would rather take the bus than drive through the city at rush hour.",
    "Next summer we want to walk from one coast of Scotland to the other.",
    "The password hint is the street where we lived in Porto.",
    "Anna plays chess on Tuesdays, so any other evening is fine.",
    "Did the landlord ever reply to your letter about the heating?",
    "My favourite colour is still dark blue.",
    "The second chapter drags a little, but the ending is wonderful.",
    "Send the report to the whole team before lunch, please.",
    "I am trying to eat less sugar and more vegetables.",
    "Our office is moving to the fourth floor in two weeks.",
    "The old laptop has 8 GB of memory and a cracked screen.",
};

enum { SENTENCES = sizeof sentences / sizeof sentences[0], SENTENCES_MAX = 7 };

/* The square makes short messages the most frequent. */
static size_t sentence_count(mf_rng *rng) {
    double u = mf_rng_unit(rng);
    return 1 + (size_t)(u * u * (double)SENTENCES_MAX);
}

void mf_bench_messages(mf_str texts[MF_BENCH_MESSAGES], char *bytes) {
    mf_rng rng;
    mf_rng_init(&rng, 2024);
    for (size_t i = 0; i < MF_BENCH_MESSAGES; i++) {
        char *start = bytes + i * MF_BENCH_MESSAGE_BYTES;
        size_t len = 0;
        for (size_t left = sentence_count(&rng); left > 0; left--) {
            mf_str one = mf_str_from(sentences[mf_rng_below(&rng, SENTENCES)]);
            MF_ASSERT(len + one.len + 1 <= MF_BENCH_MESSAGE_BYTES);
            memcpy(start + len, one.p, one.len);
            len += one.len;
            if (left > 1) {
                start[len++] = ' ';
            }
        }
        texts[i] = (mf_str){start, len};
    }
}

static const char *const varied[] = {
    "",
    "ok",
    "42",
    "?",
    "yes yes yes yes yes yes",
    "int main(void) { return puts(\"hello\") < 0; }",
    "def area(r: float) -> float:\n    return math.pi * r ** 2",
    "SELECT user_id, COUNT(*) FROM rounds WHERE created_at > '2024-05-01' GROUP BY 1;",
    "git rebase --onto main feature~3 feature && git push --force-with-lease",
    "Traceback (most recent call last): KeyError: 'session_id'",
    "{\"role\": \"user\", \"content\": \"where is my parcel?\", \"retries\": 3}",
    "error: expected ';' before 'return' at line 118, column 9",
    "https://example.org/reports/2023/annual.pdf?page=12#summary",
    "first.last@example.org, +44 20 7946 0958",
    "192.168.1.17 - - [12/Mar/2024:06:25:24 +0000] \"GET /health HTTP/1.1\" 200 2",
    "3.14159 2.71828 1.41421 1.73205 0.57721",
    "Total: $1,284.50 (incl. 19 % VAT), due 2025-01-31",
    "x = (-b + sqrt(b^2 - 4ac)) / 2a",
    "IT IS FORBIDDEN TO LEAN OUT OF THE WINDOW",
    "tHiS iS hArD tO rEaD",
    "the the the of of and and a a to to in",
    "    too   many     spaces\tand\ttabs   ",
    "a\nlist\nof\nshort\nlines",
    "Well... no -- I mean, \"maybe\" (?), who knows!!!",
    "------------------------------------------------",
    "antidisestablishmentarianism and pneumonoultramicroscopicsilicovolcanoconiosis",
    "asdkjh qwpoeiu zmxncbv lkjhgf",
    "d41d8cd98f00b204e9800998ecf8427e",
    "Ich ziehe im M\u00e4rz nach Lissabon und suche noch eine Wohnung.",
    "Je pr\u00e9f\u00e8re le th\u00e9 au caf\u00e9, surtout l'apr\u00e8s-midi.",
    "Ma\u00f1ana por la ma\u00f1ana tengo una reuni\u00f3n con el equipo.",
    "Il treno delle otto \u00e8 sempre in ritardo.",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043a\u0430\u043a "
    "\u0434\u0435\u043b\u0430?",
    "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u03ba\u03cc\u03c3\u03bc\u03b5",
    "\u6211\u6628\u5929\u5728\u5317\u4eac\u4e70\u4e86\u4e00\u672c\u4e66\u3002",
    "\u6771\u4eac\u3067\u5bff\u53f8\u3092\u98df\u3079\u307e\u3057\u305f",
    "\uc624\ub298 \ub0a0\uc528\uac00 \uc88b\ub124\uc694",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
    "happy birthday \U0001f389\U0001f382 see you tonight \u2764\ufe0f",
    "The mitochondrion is the powerhouse of the cell.",
    "To be, or not to be, that is the question.",
    "Whereas recognition of the inherent dignity is the foundation of freedom, justice "
    "and peace in the world,",
    "Preheat the oven to 180 degrees, butter a tin, sift flour and cocoa, fold in the "
    "egg whites and bake for thirty-five minutes; let it cool before you turn it out.",
    "Patient reports intermittent chest pain on exertion, relieved by rest, no "
    "radiation, no shortness of breath, blood pressure 138/86, pulse regular.",
    "The parties agree that any dispute arising out of this contract shall be settled "
    "by arbitration in Geneva under the rules in force at the time of the request.",
    "user: what time is it in Tokyo?\nassistant: It is 23:40 there.\nuser: thanks",
    "- buy milk\n- water the ferns\n- answer Lena\n- renew the library card",
};

_Static_assert(sizeof varied / sizeof varied[0] <= MF_BENCH_VARIED_MAX,
               "they fit the caller's array");

size_t mf_bench_varied(mf_str texts[MF_BENCH_VARIED_MAX]) {
    size_t count = sizeof varied / sizeof varied[0];
    for (size_t i = 0; i < count; i++) {
        texts[i] = mf_str_from(varied[i]);
    }
    return count;
}

mf_str mf_bench_question(void) {
    return MF_STR("what did my sister say about the cake");
}
