"""The texts of the golden fixture, all written for this purpose.

Order matters: row n of vectors.f32 belongs to line n of texts.jsonl.  Add new texts at
the end.  Invisible and combining characters are written as escapes so that an editor
cannot change them unnoticed.
"""

EDGES = [
    "",
    "a",
    "Z",
    "7",
    ".",
    " ",
    "     ",
    "\t\n\r \u00a0\u3000",
    "\u00e9",
    "\u4e2d",
    "\U0001f600",
    "\u0000",
    "\ufffd",
    "\u200b",
    "  leading and trailing blanks   ",
    "tabs\tand\nnew lines\r\nand\vothers\fhere",
    "no-break\u00a0space, en\u2002space, thin\u2009space, ideographic\u3000space",
    "line\u2028separator and paragraph\u2029separator and next\u0085line",
    "con\u0000trol \u0001char\u0007acters \u001b[31mvanish\u007f here\u0080\u009f",
    "re\ufffdplacement \ufffd\ufffd characters",
    "zero\u200bwidth\u200cjoiners\u200dand\ufeffmarks\u2060too",
    "soft\u00adhyphen and \u202eright-to-left override\u202c",
    "private \ue000 use and unassigned \u0378 and last \U0010ffff",
    "A\u0300\u0301\u0302\u0303 many combining marks",
]

EMOJI = [
    "\U0001f600\U0001f603\U0001f604",
    "I love it \u2764\ufe0f so much \U0001f60d",
    "family \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 at the beach",
    "thumbs \U0001f44d\U0001f3fb\U0001f44d\U0001f3fc\U0001f44d\U0001f3fd\U0001f44d\U0001f3fe\U0001f44d\U0001f3ff",
    "flags \U0001f1e9\U0001f1ea \U0001f1ef\U0001f1f5 \U0001f1e7\U0001f1f7",
    "keycaps 1\ufe0f\u20e3 2\ufe0f\u20e3 #\ufe0f\u20e3",
    "\U0001f9d1\U0001f3fd\u200d\U0001f4bb writes C at night",
    "see you at \U0001f3d6\ufe0f tomorrow?!\U0001f64f\U0001f64f",
    "\u263a\ufe0e text style, \u263a\ufe0f emoji style",
    "party\U0001f389\U0001f389\U0001f389without blanks\U0001f973",
]

SCRIPTS = [
    "\u6211\u6628\u5929\u5728\u5317\u4eac\u4e70\u4e86\u4e00\u672c\u4e66\u3002",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01 Hello, \u4e16\u754c!",
    "\u9019\u500b\u7e41\u9ad4\u5b57\u7684\u53e5\u5b50\u6709\u6a19\u9ede\uff1b\u4e5f\u6709\u300c\u5f15\u865f\u300d\u3002",
    "rare ideographs \u3400\u4dbf \U00020000\U0002a6df \uf900\ufaff \U0002f800",
    "3\u4e2aapples\u548c5\u4e2apears",
    "\u6771\u4eac\u3067\u5bff\u53f8\u3092\u98df\u3079\u307e\u3057\u305f\u3002",
    "\u30b3\u30f3\u30d4\u30e5\u30fc\u30bf\u30fc\u306e\u8a18\u61b6\u306f\u6d88\u3048\u307e\u305b\u3093",
    "\u304c\u304e\u3050 and ka\u3099 \u30d1\u30d4\u30d7 \uff76\uff9e\uff77\uff9e",
    "\ud55c\uad6d\uc5b4 \ubb38\uc7a5\uc744 \ud558\ub098 \uc801\uc5b4 \ubd05\ub2c8\ub2e4.",
    "\uc624\ub298 \ub0a0\uc528\uac00 \uc815\ub9d0 \uc88b\ub124\uc694!",
    "\u1112\u1161\u11ab\u1100\u1173\u11af decomposed jamo",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645\u060c \u0643\u064a\u0641 \u062d\u0627\u0644\u0643\u061f",
    "\u0627\u0644\u0642\u0650\u0637\u064e\u0651\u0629\u064f \u0639\u0644\u0649 \u0627\u0644\u0633\u064e\u0651\u0637\u062d\u0650",
    "\u0661\u0662\u0663 \u0641\u0627\u0631\u0633\u06cc \u06f4\u06f5\u06f6",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd, \u05de\u05d4 \u05e9\u05dc\u05d5\u05de\u05da?",
    "\u05d1\u05bc\u05b0\u05e8\u05b5\u05d0\u05e9\u05b4\u05c1\u05d9\u05ea with points",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e, \u0906\u092a \u0915\u0948\u0938\u0947 \u0939\u0948\u0902?",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0915\u094d\u0937\u0924\u094d\u0930\u093f\u092f \u0967\u0968\u0969\u0964",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01 \u0e27\u0e31\u0e19\u0e19\u0e35\u0e49\u0e2d\u0e32\u0e01\u0e32\u0e28\u0e14\u0e35",
    "\u0e01\u0e33\u0e25\u0e31\u0e07\u0e17\u0e33\u0e07\u0e32\u0e19",
    "\u09ac\u09be\u0982\u09b2\u09be\u09af\u09bc \u098f\u0995\u099f\u09bf \u09ac\u09be\u0995\u09cd\u09af",
    "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd \u0b92\u0bb0\u0bc1 \u0bb5\u0bbe\u0b95\u0bcd\u0b95\u0bbf\u0baf\u0bae\u0bcd",
    "\u10e5\u10d0\u10e0\u10d7\u10e3\u10da\u10d8 \u10d4\u10dc\u10d0 \u1c90\u1c91\u1c92",
    "\u0540\u0561\u0575\u0565\u0580\u0565\u0576 \u0563\u056b\u0580",
    "\u0f56\u0f7c\u0f51\u0f0b\u0f61\u0f72\u0f42 \u0f0d",
    "\u1019\u103c\u1014\u103a\u1019\u102c\u1005\u102c",
    "\u13a0\u13b3\u13a9 \uab70\uab71 Cherokee",
    "\u12a0\u121b\u122d\u129b \u1218\u120d\u12ab\u121d",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0401\u043b\u043a\u0430 \u0438 \u0439\u043e\u0434.",
    "\u0423\u043a\u0440\u0430\u0457\u043d\u0441\u044c\u043a\u0430 \u043c\u043e\u0432\u0430 \u0491\u0440\u0443\u043d\u0442",
    "\u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1 \u03ba\u03cc\u03c3\u03bc\u03b5, \u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3 \u1f08\u03b3\u03b1\u03b8\u03cc\u03c2",
    "\U0001d400\U0001d401\U0001d402 mathematical \U0001d7d8\U0001d7d9 letters \U00010400\U00010428",
    "\U00012000\U00012001 cuneiform \U00013000 hieroglyph \u16a0\u16a1 runes",
]

ACCENTS = [
    "caf\u00e9 na\u00efve r\u00e9sum\u00e9 fa\u00e7ade",
    "cafe\u0301 nai\u0308ve re\u0301sume\u0301 fac\u0327ade",
    "\u00c5ngstr\u00f6m \u212bngstrom A\u030angstrom",
    "stra\u00dfe STRA\u1e9eE Gru\u00df \u00fcber \u00c4rger \u00d6l",
    "\u0130stanbul'da \u0131s\u0131 \u011f\u00fcne\u015f I\u0307",
    "za\u017c\u00f3\u0142\u0107 g\u0119\u015bl\u0105 ja\u017a\u0144",
    "p\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd k\u016f\u0148",
    "Vi\u1ec7t Nam \u0111\u1ea5t n\u01b0\u1edbc ti\u1ebfng Vi\u1ec7t",
    "\u00d8resund \u00e6ble \u0153uvre \u00fe\u00f3rr \u00f0",
    "\u01c4 \u01c5 \u01c6 \u01c7 \u01ca titlecase digraphs",
    "\ufb01ne \ufb02our o\ufb03ce \ufb05ar \u0133sland",
    "\uff26\uff55\uff4c\uff4c\u3000\uff37\uff49\uff44\uff54\uff48\u3000\uff11\uff12\uff13\uff01",
    "\u24b6\u24d1\u2460\u2171\u2160 circled and roman \u2163",
    "x\u00b2 + y\u00b3 = z\u2074, H\u2082O, 5\u00bd \u2153",
    "\u00aa\u00ba \u2122 \u00ae \u00a9 \u2116 5",
    "Z\u0351\u036ba\u0363l\u0368g\u0321o\u0322 t\u0489e\u0334x\u0335t\u0336",
    "\u1e0c\u0307 \u1e0d\u0307 d\u0323\u0307 d\u0307\u0323 order of marks",
    "\u2126 \u03a9 \u212a K \u00b5 \u03bc look alike",
    "\u0345 \u03b1\u0345 \u1f80 iota below \u1fbc",
    "\u1e9b\u0323 \ufb2c \u0958 composition exclusions",
]

PUNCTUATION = [
    "Hello, world!",
    "Wait... what?! No -- really; (yes): \"quoted\" 'single'",
    "!!!???...,,,;;;:::---___",
    "$100 + 20% = \u20ac120 ~ \u00a399 ^ \u00a512,000 | a<b>c `tick`",
    "\u00abguillemets\u00bb \u201cdouble\u201d \u2018single\u2019 \u201elow\u201c \u2013 \u2014 \u2026",
    "\u3010\u65e5\u672c\u3011\u300e\u62ec\u5f27\u300f\u301c\uff5e\u30fb",
    "don't won't I'll we've they're he'd I'm it's DON'T WE'LL",
    "don\u2019t won\u2019t I\u2019ll",
    "a.b.c.d e-f-g h_i_j k/l/m n\\o\\p",
    "((([[[{{{}}}]]])))",
    "#hashtag @mention $CASH 100% a&b *bold* _under_",
    "\u00a7 5 \u00b6 2 \u2020 \u2021 \u2022 bullets \u00b7 dots \u2030",
    "\u2192 \u21d2 \u2200x\u2208\u211d \u2203y \u2265 0 \u222b \u221e \u2248 \u2260",
    "\u2500\u2502\u250c\u2510 box \u2588\u2593\u2592 blocks \u25a0\u25cf\u2605",
    "'''\"\"\"```",
    "----------------------------------------",
    "........................................................................",
    "=-=-=-=-=-=-=-=-=-=-=",
    "?",
    "'s 'S 'LL 've 'RE x's X'S",
    "\u055a\u058a\u05be\u061f\u0964\u1362\u2e2e\ufe50\uff0e",
    "\u0bf0 \u20bf \u2212 \u00f7 \u00d7 \u02c6 \u02dc \u00b4 `",
]

NUMBERS = [
    "0",
    "1234567890",
    "3.14159265358979",
    "1,000,000.00",
    "-42 +17 1e-9 6.022E23",
    "2024-02-29T23:59:59Z",
    "10/11/2025 at 8:05 pm, 20:05",
    "+49 (0)30 1234-5678",
    "192.168.0.1 and 2001:db8::ff00:42:8329",
    "0xDEADBEEF 0b1010 0o777",
    "1 22 333 4444 55555 666666 7777777",
    "v1.2.3-rc.4+build.567",
    "\u0967\u0968\u0969\u096a \uff11\uff12\uff13 \u0e51\u0e52\u0e53 \u2155 \u216b",
    "ISBN 978-3-16-148410-0 costs 1.299,00 EUR",
]

URLS = [
    "https://example.com/",
    "http://user:pw@host.example:8080/a/b%20c?q=1&r=two#frag",
    "mail me at first.last+tag@sub.example.org please",
    "see www.example.net/path_(with)_parens, then ftp://files.example/x.tar.gz.",
    "/usr/local/share/man/man1/ls.1.gz",
    "C:\\Program Files\\Example\\app.exe",
    "git@git.example.com:team/project.git",
    "data:text/plain;base64,SGVsbG8sIFdvcmxkIQ==",
    "https://de.example.org/wiki/Stra%C3%9Fe?l\u00e4nge=\u00fc",
]

LONG_WORDS = [
    "a" * 99,
    "a" * 100,
    "a" * 101,
    "b" * 99 + " end",
    "b" * 100 + " end",
    "b" * 101 + " end",
    "\u00e9" * 99,
    "\u00e9" * 100,
    "\u00e9" * 101,
    "e\u0301" * 100,
    "e\u0301" * 101,
    "start " + "x" * 500 + " end",
    "\u0430" * 100 + " " + "\u0430" * 101,
    "Donaudampfschifffahrtsgesellschaftskapitaensmuetzenfabrik",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch",
    "abcdefghijklmnopqrstuvwxyz" * 8,
    "0123456789" * 12,
    "AaBbCcDd" * 20,
]

SPECIAL = [
    "[CLS] inside [SEP] the text [MASK] and [PAD] or [UNK].",
    "[CLS][SEP]",
    "[cls] lower case, [ CLS ] with blanks, [CLS",
    "word[MASK]word",
    "[UNK]",
    "<|endoftext|> and <|endofprompt|> are ordinary text here",
    "<|im_start|>user\nhello<|im_end|>",
    "a[SEP]\u00e9[CLS] b",
    "[unused0] [unused99] ##ing ##s",
    "[[CLS]] [MASK][MASK] [mask]",
]

CODE = [
    "int main(void) {\n    printf(\"hello, world\\n\");\n    return 0;\n}",
    "#define MAX(a, b) ((a) > (b) ? (a) : (b))",
    "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n",
    "class Shop:\n\tdef __init__(self, name: str = 'corner'):\n\t\tself._name = name\n",
    "const sum = (xs) => xs.reduce((a, b) => a + b, 0); // total",
    "fn main() {\n    let v: Vec<u32> = (1..=10).filter(|x| x % 2 == 0).collect();\n    println!(\"{:?}\", v);\n}",
    "func (s *Server) Close() error { s.mu.Lock(); defer s.mu.Unlock(); return nil }",
    "SELECT u.name, COUNT(*) FROM users u JOIN orders o ON o.user_id = u.id WHERE o.total >= 10.5 GROUP BY 1;",
    "for f in *.txt; do sed -i 's/old/new/g' \"$f\" && echo \"done: $f\"; done",
    "public static void main(String[] args) { System.out.println(args.length); }",
    "<div class=\"card\"><a href=\"#top\">Top &amp; more</a></div><!-- note -->",
    ".card > a:hover { color: #ff8800; margin: 0 auto !important; }",
    "template <typename T> constexpr T square(T x) noexcept { return x * x; }",
    "(defun square (x) (* x x)) ; lisp",
    "main = mapM_ print $ takeWhile (< 100) [x ^ 2 | x <- [1 ..]]",
    "camelCaseName snake_case_name SCREAMING_SNAKE PascalCase kebab-case XMLHttpRequest",
    "if (x!=0&&y>=1||!z) { a[i]+=*p++; }",
    "    \n        indented\n\n\n\tmixed   \n  end  \n",
    "Traceback (most recent call last):\n  File \"app.py\", line 12, in <module>\nZeroDivisionError: division by zero",
    "0000000: 7f45 4c46 0201 0100  .ELF....",
]

STRUCTURED = [
    "{\"name\": \"Ada\", \"tags\": [\"a\", \"b\"], \"n\": 1.5e3, \"ok\": true, \"none\": null}",
    "[{\"role\":\"user\",\"content\":\"What did I say about \\u00fcber?\\n\"}]",
    "# Title\n\n- item one\n- item **two**\n\n> quote\n\n```c\nint x;\n```\n",
    "| col a | col b |\n|-------|------:|\n| 1     | 2     |\n",
    "key: value\nlist:\n  - one\n  - two\nnested: {a: 1}\n",
    "[section]\nname = \"value\" # comment\npath=/tmp/x\n",
    "<?xml version=\"1.0\"?><a b='c'><d/></a>",
    "id,name,price\n1,\"Smith, John\",9.99\n2,Zo\u00eb,10\n",
    "1. First step\n2. Second step\n   a) detail\n   b) detail\n",
    "Subject: Minutes\nFrom: ann@example.com\n\nDear all,\nsee attached.\n",
    "2025-11-20 18:39:33.123 ERROR [pool-3] request 7f3a failed: timeout after 5000 ms",
    "GET /api/v1/users?limit=10 HTTP/1.1\r\nHost: example.com\r\nAccept: */*\r\n\r\n",
    "diff --git a/x b/x\n@@ -1,3 +1,3 @@\n-old line\n+new line\n",
]

CHAT = [
    "My sister moved to Lisbon last spring and works as a nurse there.",
    "What was the name of the restaurant we liked in Porto?",
    "Remember that I am allergic to peanuts, please.",
    "ok",
    "lol yeah, tht was gr8!! brb",
    "I finished the marathon in four hours and twelve minutes.",
    "Can you remind me to call the dentist on Monday at nine?",
    "The cat knocked over the blue vase again, third time this week.",
    "We agreed to meet at the north entrance, not the south one.",
    "My favourite book as a child was about a fox who built boats.",
    "She said the budget is 4,500 euros, but I think it will be more.",
    "Honestly? I'd rather stay home and bake bread.",
    "Grandpa taught me chess when I was six.",
    "The deployment failed because the disk was full, so we rolled it back.",
    "User: How was the trip?\nAssistant: Tell me more about it.",
    "I switched from tea to coffee in 2019 and never looked back.",
    "Do you know why the server returned 503 yesterday evening?",
    "Our dog Biscuit turns five on the 3rd of July.",
    "He plays the cello; she plays the drums.",
    "THIS IS VERY IMPORTANT, READ IT TWICE",
    "the meeting is moved to thursday",
    "The meeting is moved to Thursday.",
    "Ich habe gestern einen neuen Schl\u00fcssel f\u00fcr die Wohnung machen lassen.",
    "Wann f\u00e4hrt der n\u00e4chste Zug nach K\u00f6ln?",
    "J'ai oubli\u00e9 mon parapluie \u00e0 l'h\u00f4tel, peux-tu le r\u00e9cup\u00e9rer ?",
    "L'ann\u00e9e derni\u00e8re, nous sommes all\u00e9s en Bretagne.",
    "\u00bfD\u00f3nde dejaste las llaves del coche? \u00a1No las encuentro!",
    "Ma\u00f1ana tengo una cita con el m\u00e9dico a las diez.",
    "Ho comprato tre chili di pomodori al mercato.",
    "Perch\u00e9 non andiamo al mare domenica?",
    "Amanh\u00e3 vou visitar a minha av\u00f3 em S\u00e3o Paulo.",
    "Ik heb gisteren een fiets gekocht in Utrecht.",
    "Jag bor i G\u00f6teborg men \u00e4r f\u00f6dd i \u00c5re.",
    "Mieszkam w \u0141odzi od dw\u00f3ch lat.",
    "V\u010dera jsem \u010detl zaj\u00edmav\u00fd \u010dl\u00e1nek.",
    "B\u00fcy\u00fck babam \u0130zmir'de ya\u015f\u0131yor.",
    "Minun kissani nimi on Pulla ja se nukkuu paljon.",
    "Tegnap vett\u00fcnk egy \u00faj asztalt \u00e9s h\u00e1rom sz\u00e9ket.",
    "T\u00f4i th\u00edch u\u1ed1ng c\u00e0 ph\u00ea s\u1eefa \u0111\u00e1 v\u00e0o bu\u1ed5i s\u00e1ng.",
    "Saya tinggal di Bandung sejak tahun lalu.",
    "\u042f \u0436\u0438\u0432\u0443 \u0432 \u0441\u0442\u0430\u0440\u043e\u043c \u0434\u043e\u043c\u0435 \u0443 \u0440\u0435\u043a\u0438.",
    "\u0413\u0434\u0435 \u043c\u043e\u0439 \u0437\u0435\u043b\u0451\u043d\u044b\u0439 \u0448\u0430\u0440\u0444?",
    "\u0397 \u03b3\u03ac\u03c4\u03b1 \u03ba\u03bf\u03b9\u03bc\u03ac\u03c4\u03b1\u03b9 \u03c3\u03c4\u03bf\u03bd \u03ba\u03b1\u03bd\u03b1\u03c0\u03ad.",
    "\u6211\u4e0b\u5468\u4e09\u8981\u53bb\u4e0a\u6d77\u51fa\u5dee\uff0c\u8bf7\u63d0\u9192\u6211\u5e26\u7535\u8111\u3002",
    "\u5979\u6700\u559c\u6b22\u7684\u989c\u8272\u662f\u84dd\u8272\u5417\uff1f",
    "\u660e\u65e5\u306e\u4f1a\u8b70\u306f\u4f55\u6642\u304b\u3089\u3067\u3059\u304b\uff1f",
    "\u732b\u304c\u7a93\u306e\u305d\u3070\u3067\u5bdd\u3066\u3044\u308b\u3002",
    "\uc800\ub294 \ub9e4\uc77c \uc544\uce68\uc5d0 \ub2ec\ub9ac\uae30\ub97c \ud569\ub2c8\ub2e4.",
    "\u0623\u0633\u0643\u0646 \u0641\u064a \u0627\u0644\u0642\u0627\u0647\u0631\u0629 \u0645\u0639 \u0639\u0627\u0626\u0644\u062a\u064a.",
    "\u05d0\u05e0\u05d9 \u05d0\u05d5\u05d4\u05d1 \u05dc\u05e7\u05e8\u05d5\u05d0 \u05e1\u05e4\u05e8\u05d9\u05dd \u05d1\u05e2\u05e8\u05d1.",
    "\u092e\u0941\u091d\u0947 \u091a\u093e\u092f \u092a\u0938\u0902\u0926 \u0939\u0948, \u0915\u0949\u092b\u093c\u0940 \u0928\u0939\u0940\u0902\u0964",
    "\u0e1e\u0e23\u0e38\u0e48\u0e07\u0e19\u0e35\u0e49\u0e09\u0e31\u0e19\u0e21\u0e35\u0e1b\u0e23\u0e30\u0e0a\u0e38\u0e21\u0e15\u0e2d\u0e19\u0e1a\u0e48\u0e32\u0e22",
]

MIXED = [
    "Call \u5c71\u7530\u3055\u3093 at +81-3-1234-5678 about the \u00dcbersetzung \U0001f4de",
    "\u041f\u0440\u0438\u0432\u0435\u0442 from \u6771\u4eac, \u0645\u0631\u062d\u0628\u0627 from Caf\u00e9 \U0001f600!",
    "iPhone15ProMax's \u20ac1.199,00 price-tag (incl. 19% MwSt.) \u2013 wow\u2026",
    "a\u4e2db\u6587c d1e2f3 \u03b1\u03b2\u03b3\u0430\u0431\u0432",
    "\u200fmixed \u200edirections \u05d0\u05d1\u05d2 abc 123 \u0627\u0628\u062a",
    "e=mc\u00b2 \u2234 \u0394t\u22600 \u21d2 \u2207\u00d7E=\u2212\u2202B/\u2202t",
    "Ti\u1ebfng Vi\u1ec7t, \u65e5\u672c\u8a9e, English\u3001fran\u00e7ais\uff0c\u0440\u0443\u0441\u0441\u043a\u0438\u0439 all at once",
    "OK\U0001f44c\U0001f3fdok 100\uff05 \uff21\uff22\uff23abc \u2460\u2461 \ufb01n",
]

_WORDS = (
    "river stone window garden answer yellow morning letter travel kitchen music "
    "engine winter bridge paper honest market silver forest question teacher island "
    "pocket thunder village orange mirror summer ladder candle"
).split()


def _prose(count, step):
    """`count` words, the same ones every time, with a full stop now and then."""
    words = []
    for n in range(count):
        word = _WORDS[(n * step + n // 7) % len(_WORDS)]
        words.append(word + "." if n % 11 == 10 else word)
    return " ".join(words)


LENGTHS = [
    _prose(10, 3),
    _prose(32, 5),
    _prose(64, 7),
    _prose(128, 11),
    _prose(200, 13),
    # Around the window of 256 ids, of which [CLS] and [SEP] take two.
    " ".join(["tree"] * 253),
    " ".join(["tree"] * 254),
    " ".join(["tree"] * 255),
    " ".join(["tree"] * 253 + ["unbelievably"]),
    " ".join(["tree"] * 252 + ["pneumonoultramicroscopic"]),
    _prose(500, 17),
    _prose(1000, 19),
    "\u4e2d\u6587" * 200,
    "Long paragraphs carry more than one thought. " * 12,
]

TEXTS = (
    EDGES + EMOJI + SCRIPTS + ACCENTS + PUNCTUATION + NUMBERS + URLS + LONG_WORDS
    + SPECIAL + CODE + STRUCTURED + CHAT + MIXED + LENGTHS
)
