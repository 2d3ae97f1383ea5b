// The same classes for `import`, so that instanceof works whichever way they came.
export * from "./index.js";
