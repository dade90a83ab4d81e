//! Subjects as data: manifests, sources, recipes and the build cache.
