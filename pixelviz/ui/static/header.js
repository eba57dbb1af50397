element.querySelector(".pv-dark").onclick = () => document.body.classList.toggle("dark");
