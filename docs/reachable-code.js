// A block that is wider than the page must be reachable by the keyboard (WCAG 2.1.1).
for (const block of document.querySelectorAll("pre > code, .table-wrapper")) {
    block.tabIndex = 0;
}
