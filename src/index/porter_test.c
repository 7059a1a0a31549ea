/* porter_test.c - stems are those of the paper, and no word can hurt the stemmer. */
#include "index/porter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

typedef struct pair {
    const char *word, *stem;
} pair;

/* Worked out by hand from the rules; the examples of the paper are among them, taken
 * through all five steps. */
static const pair pairs[] = {
    /* step 1a: plurals */
    {"caresses", "caress"},
    {"ponies", "poni"},
    {"ties", "ti"},
    {"caress", "caress"},
    {"cats", "cat"},
    {"dogs", "dog"},
    {"news", "new"},
    {"houses", "hous"},
    {"cries", "cri"},
    {"studies", "studi"},
    {"bus", "bu"},
    {"glass", "glass"},
    /* step 1b: -eed, -ed, -ing */
    {"feed", "feed"},
    {"agreed", "agre"},
    {"plastered", "plaster"},
    {"bled", "bled"},
    {"motoring", "motor"},
    {"sing", "sing"},
    {"conflated", "conflat"},
    {"troubled", "troubl"},
    {"sized", "size"},
    {"hopping", "hop"},
    {"tanned", "tan"},
    {"falling", "fall"},
    {"hissing", "hiss"},
    {"fizzed", "fizz"},
    {"failing", "fail"},
    {"filing", "file"},
    {"having", "have"},
    {"using", "us"},
    {"running", "run"},
    {"swimming", "swim"},
    {"hiking", "hike"},
    {"biked", "bike"},
    {"camping", "camp"},
    {"painting", "paint"},
    {"paintings", "paint"},
    {"painted", "paint"},
    {"owned", "own"},
    {"cried", "cri"},
    {"crying", "cry"},
    {"dying", "dy"},
    {"king", "king"},
    {"string", "string"},
    {"travelled", "travel"},
    {"traveling", "travel"},
    {"played", "plai"},
    {"snowed", "snow"},
    {"boxed", "box"},
    {"meetings", "meet"},
    /* step 1c: y */
    {"happy", "happi"},
    {"sky", "sky"},
    {"study", "studi"},
    {"studying", "studi"},
    {"enjoy", "enjoi"},
    {"by", "by"},
    {"day", "dai"},
    /* step 2 */
    {"relational", "relat"},
    {"conditional", "condit"},
    {"rational", "ration"},
    {"valenci", "valenc"},
    {"hesitanci", "hesit"},
    {"digitizer", "digit"},
    {"conformabli", "conform"},
    {"radicalli", "radic"},
    {"differentli", "differ"},
    {"vileli", "vile"},
    {"analogousli", "analog"},
    {"vietnamization", "vietnam"},
    {"predication", "predic"},
    {"operator", "oper"},
    {"feudalism", "feudal"},
    {"decisiveness", "decis"},
    {"hopefulness", "hope"},
    {"callousness", "callous"},
    {"formaliti", "formal"},
    {"sensitiviti", "sensit"},
    {"sensibiliti", "sensibl"},
    {"nation", "nation"},
    {"national", "nation"},
    {"organization", "organ"},
    /* step 3 */
    {"triplicate", "triplic"},
    {"formative", "form"},
    {"formalize", "formal"},
    {"electriciti", "electr"},
    {"electrical", "electr"},
    {"hopeful", "hope"},
    {"goodness", "good"},
    {"happiness", "happi"},
    {"kindness", "kind"},
    {"beautiful", "beauti"},
    /* step 4 */
    {"revival", "reviv"},
    {"allowance", "allow"},
    {"inference", "infer"},
    {"airliner", "airlin"},
    {"gyroscopic", "gyroscop"},
    {"adjustable", "adjust"},
    {"defensible", "defens"},
    {"irritant", "irrit"},
    {"replacement", "replac"},
    {"adjustment", "adjust"},
    {"dependent", "depend"},
    {"adoption", "adopt"},
    {"homologou", "homolog"},
    {"communism", "commun"},
    {"activate", "activ"},
    {"angulariti", "angular"},
    {"homologous", "homolog"},
    {"effective", "effect"},
    {"bowdlerize", "bowdler"},
    {"painter", "painter"},
    {"abilities", "abil"},
    {"champion", "champion"},
    {"provision", "provis"},
    /* step 5 */
    {"probate", "probat"},
    {"rate", "rate"},
    {"cease", "ceas"},
    {"controll", "control"},
    {"roll", "roll"},
    {"universe", "univers"},
    {"university", "univers"},
    {"argue", "argu"},
    {"argument", "argument"},
    /* long ways */
    {"generalizations", "gener"},
    {"oscillators", "oscil"},
    {"connect", "connect"},
    {"connected", "connect"},
    {"connecting", "connect"},
    {"connection", "connect"},
    {"connections", "connect"},
    /* too short to touch */
    {"is", "is"},
    {"s", "s"},
    {"", ""},
};

static void table_of_words_gives_the_stems_of_the_paper(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        char word[32];
        size_t len = strlen(pairs[i].word);
        memcpy(word, pairs[i].word, len + 1);
        word[mf_porter_stem(word, len)] = '\0';
        assert_string_equal(word, pairs[i].stem);
    }
}

static void any_run_of_letters_keeps_a_stem_within_its_length(void **state) {
    (void)state;
    static const char letters[] = "aeiouysdglntrizmbefvc";
    mf_rng rng;
    mf_rng_init(&rng, 7);
    for (size_t round = 0; round < 100000; round++) {
        char word[20];
        char again[20];
        size_t len = 1 + mf_rng_below(&rng, sizeof(word) - 2);
        for (size_t i = 0; i < len; i++) {
            word[i] = letters[mf_rng_below(&rng, sizeof(letters) - 1)];
        }
        word[len] = '!'; /* must survive */
        memcpy(again, word, sizeof(word));
        size_t stem_len = mf_porter_stem(word, len);
        assert_in_range(stem_len, 1, len);
        assert_int_equal(word[len], '!');
        assert_int_equal(mf_porter_stem(again, len), stem_len);
        assert_memory_equal(word, again, stem_len);
    }
}

static void a_long_run_of_y_is_stemmed(void **state) {
    (void)state;
    static char word[1 << 10];
    memset(word, 'y', sizeof(word));
    assert_in_range(mf_porter_stem(word, sizeof(word)), 1, sizeof(word));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_of_words_gives_the_stems_of_the_paper),
        cmocka_unit_test(any_run_of_letters_keeps_a_stem_within_its_length),
        cmocka_unit_test(a_long_run_of_y_is_stemmed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
