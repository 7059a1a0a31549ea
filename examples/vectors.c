/* vectors.c - sentence vectors inside a program: which of a few sentences is nearest in
 * meaning to the first?
 *
 *   cc vectors.c -lmemfuse -lm ...   (built by CMake as the target `example_vectors`)
 *   ./example_vectors MODEL_DIR */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memfuse/model.h"

static const char *const sentences[] = {
    "The cat sat on the mat.",
    "A kitten was sitting on a rug.",
    "The interest rate rises in May.",
};
enum { COUNT = sizeof sentences / sizeof sentences[0] };

/* Vectors have length 1, so their product is the cosine of the angle between them. */
static double cosine(const float *a, const float *b, size_t dim) {
    double sum = 0.0;
    for (size_t i = 0; i < dim; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

static int compare(mf_model *model) {
    char error[MF_ENGINE_ERROR_TEXT];
    mf_model_text texts[COUNT];
    size_t dim = mf_model_dim(model);
    float *vectors = malloc(COUNT * dim * sizeof *vectors);
    for (size_t i = 0; i < COUNT; i++) {
        texts[i] = (mf_model_text){sentences[i], strlen(sentences[i])};
    }
    if (vectors == NULL ||
        mf_model_embed(model, texts, COUNT, vectors, NULL, error) != 0) {
        (void)fprintf(stderr, "%s\n", vectors != NULL ? error : "out of memory");
        free(vectors);
        return 1;
    }
    for (size_t i = 1; i < COUNT; i++) {
        (void)printf("%.2f  %s  %s\n", cosine(vectors, vectors + i * dim, dim),
                     sentences[0], sentences[i]);
    }
    free(vectors);
    return 0;
}

int main(int argc, char **argv) {
    char error[MF_ENGINE_ERROR_TEXT];
    mf_model *model = NULL;
    mf_model_options options = mf_model_options_default();
    const char *dir = argc > 1 ? argv[1] : "data/models/all-MiniLM-L6-v2";
    if (mf_model_open(dir, &options, &model, error) != 0) {
        (void)fprintf(stderr, "%s\n", error);
        return 1;
    }
    int failed = compare(model);
    mf_model_close(model);
    return failed;
}
