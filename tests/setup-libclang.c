/* Reads C headers with a libclang, as the build will: exits with 0 if it can, else says why not.
 *
 *   setup-libclang LIBRARY
 *
 * A library that is there may still not do: without its own folder of headers it finds no stddef.h.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    const void *data;
    unsigned flags;
} String;

typedef struct {
    const char *name;
    const char *contents;
    unsigned long length;
} File;

static const char header[] = "#include <errno.h>\n"
                             "#include <limits.h>\n"
                             "#include <pthread.h>\n"
                             "#include <setjmp.h>\n"
                             "#include <stdarg.h>\n"
                             "#include <stdbool.h>\n"
                             "#include <stddef.h>\n"
                             "#include <stdint.h>\n"
                             "#include <stdio.h>\n"
                             "#include <stdlib.h>\n"
                             "#include <string.h>\n"
                             "#include <sys/types.h>\n";

int main(int count, char **arguments)
{
    if (count != 2) {
        fputs("usage: setup-libclang LIBRARY\n", stderr);
        return 2;
    }
    void *library = dlopen(arguments[1], RTLD_NOW);
    if (!library) {
        printf("%s\n", dlerror());
        return 1;
    }
    void *(*create_index)(int, int) = dlsym(library, "clang_createIndex");
    int (*parse)(void *, const char *, const char *const *, int, File *, unsigned, unsigned, void **) =
        dlsym(library, "clang_parseTranslationUnit2");
    unsigned (*diagnostics)(void *) = dlsym(library, "clang_getNumDiagnostics");
    void *(*diagnostic)(void *, unsigned) = dlsym(library, "clang_getDiagnostic");
    int (*severity)(void *) = dlsym(library, "clang_getDiagnosticSeverity");
    String (*format)(void *, unsigned) = dlsym(library, "clang_formatDiagnostic");
    const char *(*text)(String) = dlsym(library, "clang_getCString");
    if (!create_index || !parse || !diagnostics || !diagnostic || !severity || !format || !text) {
        printf("%s is not libclang\n", arguments[1]);
        return 1;
    }
    File file = {"setup.h", header, strlen(header)};
    void *unit = NULL;
    int failed = parse(create_index(0, 0), file.name, NULL, 0, &file, 1, 0, &unit);
    if (failed || !unit) {
        printf("%s does not read C (error %d)\n", arguments[1], failed);
        return 1;
    }
    for (unsigned i = 0; i < diagnostics(unit); i++) {
        void *found = diagnostic(unit, i);
        if (severity(found) >= 3) { /* an error */
            printf("%s: %s\n", arguments[1], text(format(found, 1)));
            return 1;
        }
    }
    return 0;
}
