"use strict";
// The samples of a report: a slider that lays the original over the reconstruction, and a zoom whose panes scroll together.
(() => {
  for (const card of document.querySelectorAll(".card")) {
    const slider = card.querySelector("input[type=range]");
    const over = card.querySelector(".over"), edge = card.querySelector(".edge");
    if (slider) {
      over.src = card.querySelector("img").src; // the original, which is in the page once
      over.hidden = false;
      const show = () => {
        const part = Number(slider.value);
        over.style.clipPath = `inset(0 ${100 - part}% 0 0)`;
        edge.style.left = `${part}%`;
        edge.hidden = part === 0 || part === 100;
        slider.setAttribute("aria-valuetext", `${part} % of the original`);
      };
      slider.addEventListener("input", show);
      show();
    }
    const views = Array.from(card.querySelectorAll(".view"));
    for (const view of views)
      view.addEventListener("scroll", () => {
        for (const other of views)
          if (other !== view && (other.scrollTop !== view.scrollTop || other.scrollLeft !== view.scrollLeft))
            other.scrollTo(view.scrollLeft, view.scrollTop);
      });
  }
  for (const zoom of document.querySelectorAll("select[data-zoom]"))
    zoom.addEventListener("change", () => {
      for (const stack of zoom.closest(".samples").querySelectorAll(".stack")) {
        const fit = zoom.value === "fit";
        stack.style.width = fit ? "" : `${zoom.value * stack.dataset.width}px`;
        stack.closest(".view").tabIndex = fit ? -1 : 0; // what scrolls can be reached by the keyboard
      }
    });
  for (const controls of document.querySelectorAll(".controls")) controls.hidden = false;
  for (const wipe of document.querySelectorAll(".wipe")) wipe.hidden = false;
})();
