"""Pictures: they take arrays, sentences and runs, never a model, and return a figure that shows itself in a notebook.

    style       the look, `save_figure`
    curves      metrics over steps, KL per dimension, comparisons
    rate        rate and distortion, and what a threshold of the KL does on several corpora
    dictionary  usage and lives of codes, their patches, a dictionary in the plane
    few_labels  scores against the number of labels, GLUE's table
    latent      t-SNE panels, maps and paths of a latent space, analogies
    dialog      responses around a context, quality against diversity, the style slider
    images      grids of pictures, training histories, walks, heat maps, translations
    scores      a score with its interval over steps, of one run or of several seeds
    plane       points of the toy lab, side by side
    house_map   a house from above with its floors, paths, an agent and its candidates; `floor` draws one floor
    panorama    what an agent sees: 36 views as a strip
    instruction words with the attention they get
    navigation  one step of an episode in one picture, routes of many episodes
    speaking    real and synthetic triplets, their shares
    film        an episode as a GIF, or as a page that plays by itself
    timeline    the article's first figure, the three families
    transfer    sentences rewritten with another label, accuracy against BLEU
    table       `table(rows, columns)` for notebooks, logs and READMEs
    words       sentences with the changed words marked
"""

from dgmlab.viz.curves import (
    GAN_PANELS,
    plot_beta_schedule,
    plot_comparison,
    plot_kl_per_dim,
    plot_metric,
    plot_training,
)
from dgmlab.viz.dialog import plot_region, plot_slider, plot_trade_off, plot_ways
from dgmlab.viz.dictionary import plot_centroids, plot_code_life, plot_dictionary_2d, plot_divergence, plot_patches, plot_usage
from dgmlab.viz.few_labels import glue_table, label_table, plot_difference, plot_errors, plot_few_labels, plot_low_resource
from dgmlab.viz.film import save_gif, save_page
from dgmlab.viz.house_map import collect_options, plot_house
from dgmlab.viz.images import plot_grid, plot_heat_maps, plot_history, plot_translation, plot_walk
from dgmlab.viz.instruction import plot_attention, plot_instruction
from dgmlab.viz.latent import plot_analogy, plot_latent_grid, plot_map, plot_path, plot_tsne, tsne
from dgmlab.viz.navigation import collect_moment, plot_actions, plot_episode, plot_routes
from dgmlab.viz.panorama import plot_panorama
from dgmlab.viz.plane import plot_points
from dgmlab.viz.rate import plot_rate_distortion, plot_thresholds
from dgmlab.viz.scores import plot_scores
from dgmlab.viz.speaking import plot_triplets
from dgmlab.viz.style import apply, save_figure
from dgmlab.viz.table import table
from dgmlab.viz.timeline import FAMILIES, MODELS, families_table, models_table, plot_timeline
from dgmlab.viz.transfer import plot_rewritings, plot_systems

__all__ = [
    "FAMILIES", "GAN_PANELS", "MODELS", "apply", "collect_moment", "collect_options", "families_table", "glue_table",
    "label_table", "models_table", "plot_actions", "plot_analogy", "plot_attention", "plot_beta_schedule", "plot_centroids",
    "plot_code_life", "plot_comparison", "plot_dictionary_2d", "plot_difference", "plot_divergence", "plot_episode",
    "plot_errors", "plot_few_labels", "plot_grid", "plot_heat_maps", "plot_history", "plot_house", "plot_instruction",
    "plot_kl_per_dim", "plot_latent_grid", "plot_low_resource", "plot_map", "plot_metric", "plot_panorama", "plot_patches",
    "plot_path", "plot_points", "plot_rate_distortion", "plot_region", "plot_rewritings", "plot_routes", "plot_scores",
    "plot_slider", "plot_systems", "plot_thresholds", "plot_timeline", "plot_trade_off", "plot_training", "plot_translation",
    "plot_triplets", "plot_tsne", "plot_usage", "plot_walk", "plot_ways", "save_figure", "save_gif", "save_page", "table",
    "tsne",
]
