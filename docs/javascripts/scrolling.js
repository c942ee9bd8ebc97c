// Tables and formulas that are wider than the page scroll by the keyboard, too.
function focusable() {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .formula")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
new MutationObserver(focusable).observe(document.body, { childList: true, subtree: true });
addEventListener("resize", focusable);
focusable();
