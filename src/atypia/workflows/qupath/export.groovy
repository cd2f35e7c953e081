// Atypia @VERSION@: writes the figures of the open image to a file that `atypia predict` reads.
// QuPath 0.4 or later: Automate > Script editor, open this file, Run. For a whole project: Run for project.
//
// Figures are the selected objects; with nothing selected, all detections; without detections, all annotations that are points.
// Positions count from the corner of the scanned area, as QuPath counts; Atypia knows this of QuPath's files.

// ---- settings ----
def CLASSES = []      // only figures of these classes, for instance ['Mitosis']; empty: of every class
def FOLDER = null     // where the file goes; null: folder `atypia` of the project, or of the user's home without a project

// ---- nothing to change below ----
def folder = FOLDER ?: (getProject() == null ? buildFilePath(System.getProperty('user.home'), 'atypia')
                                             : buildFilePath(PROJECT_BASE_DIR, 'atypia'))
mkdirs(folder)

@FIGURES@
def server = getCurrentServer()
def name = server.getMetadata().getName().replaceAll('[\\\\/:*?"<>|]', '_')
def file = buildFilePath(folder, name + '.geojson')
exportObjectsToGeoJson(figures, file, 'FEATURE_COLLECTION')
println 'Atypia: ' + counted(figures.size(), 'object', 'objects') + ' written to ' + file
