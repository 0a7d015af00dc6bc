/* What _engine.so has beside the engine. */
#include "engine.h"

#ifndef LIBRARY_SOURCES
#define LIBRARY_SOURCES ""
#endif
const char *ls_engine_sources(void) { return LIBRARY_SOURCES; }
