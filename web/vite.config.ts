// Builds the page into `dist`: three files whose names stay, which `levada-api` embeds.
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";
import { digest } from "./digest.ts";

export default defineConfig({
  base: "/ui/",
  plugins: [
    svelte(),
    {
      name: "digest",
      generateBundle() {
        this.emitFile({ type: "asset", fileName: "sources.txt", source: `${digest()}\n` });
      },
    },
  ],
  build: {
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    modulePreload: false,
    rollupOptions: {
      output: {
        entryFileNames: "app.js",
        assetFileNames: "app[extname]",
        codeSplitting: false,
      },
    },
  },
});
